"""The policy file as a person writes it: every key, its type, and its default.

Durations are seconds and sizes bytes once parsed.  A section that is left out has the defaults written
here; budgets, prices, store and alerting have none, because no number is right for everybody.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from proxy.policy.address import parse_address
from proxy.policy.config_fallback import FallbackConfig
from proxy.policy.config_identity import IdentityConfig
from proxy.policy.config_prices import ModelPattern, PriceConfig
from proxy.policy.config_probe import ProbeConfig
from proxy.policy.config_rollout import RolloutConfig
from proxy.policy.config_shadow import ShadowConfig
from proxy.policy.config_upstream import UpstreamConfig
from proxy.policy.facts import facts_of, gather_facts, known_upstream
from proxy.policy.fields import (
    ClockTime,
    Compat,
    Credential,
    Duration,
    Flag,
    HostName,
    HttpUrl,
    ListenAddress,
    Name,
    Percentage,
    PositiveDuration,
    SecretUrl,
    Section,
    Share,
    Size,
    StoreUrl,
    Text,
    form,
    number,
    whole,
)

# What BLAKE2b takes, and what cannot be guessed.
MIN_UNIT_KEY, MAX_UNIT_KEY = 32, 64


class TargetConfig(Section):
    """A model at an upstream; written as the model's id alone, it is on the default upstream."""

    short_form: ClassVar[JsonSchemaValue | None] = TypeAdapter(Text).json_schema()

    upstream: Annotated[str, AfterValidator(known_upstream)] | None = None
    """Where the model is served."""
    model: Text
    """The model's id; `fine_tuned: ID` and `fallback: ID` are short for a mapping with nothing else."""

    @model_validator(mode="before")
    @classmethod
    def _from_model_id(cls, value: object) -> object:
        if isinstance(value, str):
            return {"model": value}
        if not isinstance(value, dict):
            raise ValueError("a model's id, or {upstream: NAME, model: ID}")  # noqa: TRY004 – pydantic reports ValueError only
        return value


class BudgetsConfig(Section):
    """Money in US dollars; left out: no limit."""

    hourly_usd: Annotated[float, number(0, 1e9, above=True)] | None = None
    """US dollars per hour."""
    daily_usd: Annotated[float, number(0, 1e9, above=True)] | None = None
    """US dollars per day."""
    on_exceeded: Literal["baseline", "reject", "warn"] = "baseline"
    """What happens then."""


class AgentBudgetsConfig(Section):
    """One agent's own limits, which hold besides the policy's."""

    hourly_usd: Annotated[float, number(0, 1e9, above=True)] | None = None
    """US dollars per hour, for this agent."""
    daily_usd: Annotated[float, number(0, 1e9, above=True)] | None = None
    """US dollars per day, for this agent."""
    on_exceeded: Literal["baseline", "reject", "warn"] | None = None  # left out: the policy's
    """What happens then."""


class AgentConfig(Section):
    """One agent: its two models, and what is special about its split."""

    fine_tuned: TargetConfig
    fallback: TargetConfig  # the baseline
    max_tokens: Annotated[int, whole(1)] | None = None  # both only where the client sent none
    """Added where the client sent neither `max_tokens` nor `max_completion_tokens`."""
    temperature: Annotated[float, number(0, 2)] | None = None
    """Added where the client sent none."""
    rollout_percentage: Percentage | None = None  # left out: ab_testing's
    """This agent's own share."""
    compat: Compat | None = Field(default=None, validate_default=True)  # left out: the policy's
    """This agent's own way of assigning."""
    salt: Text | None = Field(default=None, validate_default=True)
    """Salts the hash; pin it to keep a cohort across a new fine-tune. With `unleash`: the flag's groupId."""
    budgets: AgentBudgetsConfig = AgentBudgetsConfig()
    shadow: ShadowConfig = ShadowConfig()

    @field_validator("compat")
    @classmethod
    def _unleash_counts_whole_percents(cls, compat: Compat | None, info: ValidationInfo) -> Compat | None:
        facts = facts_of(info)
        own = info.data.get("rollout_percentage")
        percentage = facts.percentage if own is None else own
        if (compat or facts.compat) == "unleash" and isinstance(percentage, float) and percentage % 1:
            raise ValueError("`native`, or a whole percentage: Unleash knows no finer ones")
        return compat

    @field_validator("salt")
    @classmethod
    def _unleash_has_a_salt(cls, salt: str | None, info: ValidationInfo) -> str | None:
        # Unleash salts with the flag's groupId, which cannot be guessed: any other cohort is a wrong one.
        if salt is None and (info.data.get("compat") or facts_of(info).compat) == "unleash":
            raise ValueError("the flag's groupId, which `compat: unleash` needs")
        return salt


def _check_agent_name(name: str) -> str:
    if name == "other":
        raise ValueError("another name: metrics use this one for agents the policy does not know")
    if name == "all":
        raise ValueError("another name: metrics use this one for the budget of all agents")
    return name


AgentName = Annotated[Name, AfterValidator(_check_agent_name), form(r"^(?!(?:other|all)$)[A-Za-z0-9._-]{1,64}$")]


class ModelsConfig(Section):
    """The two main switches."""

    use_finetuned: Flag = True
    """Off: everybody is on the baseline."""
    fallback_enabled: Flag = True
    """Off: a failing fine-tune's answer goes to the client as it is."""


class AbTestingConfig(Section):
    """Off: everybody is fine-tuned.  On: this share of the users, unless the agent says otherwise."""

    enabled: Flag = True
    """Off: everybody is fine-tuned."""
    rollout_percentage: Percentage = 10.0
    """The share of users that is fine-tuned."""


class StoreConfig(Section):
    """Where records go; without a URL they are not kept."""

    url: StoreUrl | None = None
    """`sqlite:///FILE` or `postgresql://…`."""
    retention: PositiveDuration = 30 * 86400.0
    """How long records are kept."""
    unit_key: Credential | None = Field(default=None, validate_default=True)
    """Users are stored as hashes with this key; proxies that share a store need the same one."""

    @field_validator("unit_key")
    @classmethod
    def _known_to_all(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        url = info.data.get("url")
        if key is None and url is not None and not url.get_secret_value().startswith("sqlite:"):
            raise ValueError("a key, because proxies that share a server must agree on it")
        if key is not None and not MIN_UNIT_KEY <= len(key.get_secret_value()) <= MAX_UNIT_KEY:
            raise ValueError(
                f"a key of {MIN_UNIT_KEY} to {MAX_UNIT_KEY} characters, such as `openssl rand -hex 32` makes"
            )
        return key


class ReportConfig(Section):
    """The daily report; without an hour there is none."""

    at: ClockTime | None = None
    """When the proxy writes the report, UTC."""
    path: Text = "reports/ab_testing_results.md"
    """The file it is written to; its pictures are beside it."""


class ObservabilityConfig(Section):
    """Logs, where metrics and traces are sent, and whether models are asked how they are."""

    enabled: Flag = True
    """Whether metrics and traces are exported. `/metrics` on the admin listener is always there."""
    export_endpoint: HttpUrl | None = None
    """An OTLP collector's base URL; metrics and traces are sent to it over HTTP."""
    traces: Share = 0.01
    """The share of requests that is traced, where the caller's `traceparent` does not decide."""
    access_log: Share = 0.0
    """The share of requests that get a line in the log; failed and rescued ones always do, unless it is `0%`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Logs are JSON lines on standard error; `debug` has one line per request."""
    probe: ProbeConfig = ProbeConfig()


class AlertingConfig(Section):
    """Notices of brake, rollback, budget and bad reload."""

    enabled: Flag = True
    """Whether notices of brake, rollback, budget and bad reload are sent."""
    slack_webhook: SecretUrl | None = None
    """Where they are sent."""


class ListenConfig(Section):
    """Where the two listeners are; the command line's `--listen` and `--admin` win."""

    data: ListenAddress = "127.0.0.1:8080"  # a sidecar serves its own pod and nobody else
    """Where requests come in: `HOST:PORT`, `[V6]:PORT`, or `:PORT` for all IPv4 addresses."""
    admin: ListenAddress = "127.0.0.1:8081"
    """Where `/livez`, `/readyz` and `/metrics` are; another address than `listen.data`."""
    admin_hosts: tuple[HostName, ...] = ()  # a browser's page may have pointed any other name at it
    """Names, without port, by which the admin listener may be asked, besides addresses and `localhost`."""

    @field_validator("admin")
    @classmethod
    def _another_than_data(cls, admin: str, info: ValidationInfo) -> str:
        data = info.data.get("data")
        if data is not None and parse_address(admin) == parse_address(data) and parse_address(admin).port:
            raise ValueError("another address than listen.data")
        return admin


class LimitsConfig(Section):
    """What one process holds at most, and for how long."""

    max_in_flight: Annotated[int, whole(1)] = 1024
    """Requests being served."""
    agent_share: Annotated[float, number(1, 100)] = 90.0
    """Of them, what one agent may hold alone, where the policy has several."""
    max_lag: PositiveDuration = 1.0
    """How late the event loop may be, three looks in a row, before new requests are refused."""
    max_connections: Annotated[int, whole(1)] = 10_000
    """Clients' connections, idle ones too; at most half of the files that the process may open."""
    max_body: Size = 32 << 20
    """One chat request's body."""
    max_buffered: Size = 512 << 20
    """All chat bodies in flight together; at least `limits.max_body`."""
    request_headers: PositiveDuration = 10.0
    """A request's head, from its first byte."""
    request_body: PositiveDuration = 30.0
    """A chat request's body; for a streamed pass-through body, the time between two pieces."""
    write_stall: PositiveDuration = 60.0
    """How long a client may take nothing of an answer."""
    drain: Duration = 25.0  # 5 s below Kubernetes' default terminationGracePeriodSeconds
    """How long requests in flight may go on after SIGTERM."""
    drain_delay: Duration = 0.0
    """How long new connections are still accepted after SIGTERM."""

    @field_validator("max_buffered")
    @classmethod
    def _one_body_fits(cls, max_buffered: int, info: ValidationInfo) -> int:
        if max_buffered < info.data.get("max_body", 0):
            raise ValueError("at least limits.max_body, or no such body is ever accepted")
        return max_buffered


# The one value without `${…}`: it is read before there is anything to expand.
ExtendsPath = Annotated[
    Text, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256, "not": {"pattern": r"\$\{"}})
]


class PolicyConfig(Section):
    """A policy file of Splitlane."""  # made by `validate_policy` only: references are checked against the rest

    extends: ExtendsPath | None = None  # followed by `load` before anything is validated
    """Another policy file, relative to this one, for what this one leaves out."""
    environment: Name = "production"
    """Shown in the log line at start; decides nothing."""
    listen: ListenConfig = ListenConfig()
    upstreams: dict[Name, UpstreamConfig]
    """Places where models are served, by name; at least one."""
    default_upstream: str = Field(default="", validate_default=True)
    """Where models without an upstream are, and where unknown agents' requests go."""
    identity: IdentityConfig = IdentityConfig()
    models: ModelsConfig = ModelsConfig()
    compat: Compat = "native"  # unleash: assign as an existing Unleash flag does; an agent may override it
    """`unleash`: assign as an existing Unleash flag does; needs whole percentages and each agent's `salt`."""
    agents: dict[AgentName, AgentConfig] = Field(default_factory=dict)
    """Agents by name, each with its two models."""
    ab_testing: AbTestingConfig = AbTestingConfig()
    fallback: FallbackConfig = FallbackConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    prices: dict[ModelPattern, PriceConfig] = Field(default_factory=dict)
    """What tokens cost, by a model's id, or the start of one followed by `*`."""
    rollout: RolloutConfig = RolloutConfig()
    store: StoreConfig = StoreConfig()
    report: ReportConfig = ReportConfig()
    observability: ObservabilityConfig = ObservabilityConfig()
    alerting: AlertingConfig = AlertingConfig()
    limits: LimitsConfig = LimitsConfig()

    @field_validator("upstreams")
    @classmethod
    def _some_upstream(cls, upstreams: dict[str, UpstreamConfig]) -> dict[str, UpstreamConfig]:
        if not upstreams:
            raise ValueError("at least one upstream")
        return upstreams

    @field_validator("default_upstream")
    @classmethod
    def _known_or_only(cls, name: str, info: ValidationInfo) -> str:
        facts = facts_of(info)
        if not name and len(facts.upstreams) == 1:
            return facts.upstreams[0]
        return known_upstream(name, info)


def validate_policy(data: object) -> PolicyConfig:
    """The typed policy of a file's plain data; raises pydantic's `ValidationError` with every error."""
    return PolicyConfig.model_validate(data, context=gather_facts(data))

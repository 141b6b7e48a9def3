"""The frozen policy that requests are served by: everything the path needs, computed once at load.

`config.py` holds what a person wrote; `compile_policy` in `compile.py` turns it into this.
Times are seconds, sizes bytes.  Agent and header names are bytes because the wire speaks bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from proxy.words import Dialect, Failure, Usage

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class TimeoutsPolicy:
    """Each bounds one phase of an attempt, except `total` and `stream`, which bound the request."""

    connect: float  # name lookup, TCP and TLS
    first_byte: float  # request written to response head
    first_content: float  # request written to the first content of a stream
    idle: float  # between two reads of a response
    total: float  # all attempts, up to the commit point (of a stream) or the end (of a JSON answer)
    stream: float  # the whole of a stream


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """Connections to one upstream."""

    max_connections: int
    keepalive: float
    wait: float


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """One place models are served.  Hashable: pools are kept by equality across reloads."""

    name: str
    tls: bool
    host: str
    port: int
    prefix: bytes  # path before /v1, without a trailing slash; often empty
    host_header: bytes  # host, with the port unless it is the scheme's default
    # None: the client's own Authorization goes through.  Never shown: it is a secret.
    authorization: bytes | None = field(repr=False)
    dialect: Dialect
    timeouts: TimeoutsPolicy
    pool: PoolPolicy
    ca_file: str | None  # None: the system's certificate authorities


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached_input: float  # for the part of the input that the upstream had cached

    def of(self, usage: Usage) -> float:
        """US dollars that the tokens cost; reasoning is part of the completion, and billed as it."""
        prompt, cached = float(usage.prompt), float(usage.cached)
        if cached > prompt:
            cached = prompt
        fresh = (prompt - cached) * self.input
        return (fresh + cached * self.cached_input + float(usage.completion) * self.output) / 1_000_000.0


@dataclass(frozen=True, slots=True)
class Target:
    """A model at an upstream."""

    upstream: UpstreamPolicy
    model: str
    model_json: bytes  # the model's name as a JSON string, as spliced into bodies
    price: Price | None = None  # None: the policy names none


class BudgetPolicy(NamedTuple):
    """What may be spent in a UTC hour and a UTC day; None: no limit."""

    hourly_usd: float | None = None
    daily_usd: float | None = None
    on_exceeded: str = "baseline"  # baseline | reject | warn

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.hourly_usd is not None or self.daily_usd is not None


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """What is copied of one agent's baseline requests."""

    percentage: float  # above 0, to 100
    threshold: int  # draws below it are copied: 1 … 10000
    salt: str
    hashed: str  # what is hashed before the request's id: the salt and a colon
    max_in_flight: int
    daily_usd: float
    timeouts: TimeoutsPolicy  # of a copy: it is one answer in one piece, and nobody waits for it


@dataclass(frozen=True, slots=True)
class AgentPolicy:
    """One agent's split."""

    name: str
    salt: str
    percentage: float  # 0 … 100, effective (after the three switches)
    threshold: int  # buckets below it are fine-tuned: 0 … 10000
    everyone: bool  # no experiment, all fine-tuned: even a request without a user
    unleash: bool  # `compat: unleash`: (h % 100) + 1 <= percentage
    finetuned: Target
    baseline: Target
    defaults: tuple[tuple[bytes, bytes], ...]  # (key, JSON value): params the client may leave out
    hashed: bytes  # what is hashed before the user: the salt and a colon
    total: float  # seconds a request may take: the larger of its two upstreams' limits
    max_tokens: int | None  # of `defaults`
    budget: BudgetPolicy  # its own; the policy's holds besides
    budgeted: bool  # one of the two has a limit
    shadow: ShadowPolicy | None = None  # None: nothing is copied


class Source(NamedTuple):
    """One place an identity may be read from: `header:x-agent` is ("header", b"x-agent")."""

    kind: str  # header | baggage | path | body | metadata | model | key | default
    name: bytes  # header names in lower case; empty for path, model, key


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """Where agent and user come from; first hit wins."""

    agent: tuple[Source, ...]
    user: tuple[Source, ...]
    keys: Mapping[str, bytes]  # SHA-256 of a bearer token, hex → agent
    on_missing_user: str  # baseline | random | reject
    allow_override: bool
    forward: bool
    headers: frozenset[bytes]  # lower-case names of all identity headers, removed unless `forward`
    trusted: tuple[Network, ...] | None = None  # whose word is taken; None: everybody's


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`failures` in a row within `window` open the breaker for `open` seconds."""

    failures: int
    window: float
    open: float


@dataclass(frozen=True, slots=True)
class FallbackPolicy:
    """When and how often another attempt is made."""

    enabled: bool
    on: frozenset[Failure]  # failures of the fine-tune that the baseline answers
    retry_finetuned: int
    retry_baseline: int
    max_wait: float
    buffer_stream: bool
    retry_budget_ratio: float  # retries per request
    retry_budget_min: int  # retries per second that are always allowed
    breaker: BreakerPolicy


class BrakePolicy(NamedTuple):
    """When the evidence against a fine-tune stops it, for every agent alike."""

    enabled: bool = True  # False: nothing trips it; what was tripped holds
    floor: float = 0.02  # the least failure rate that counts as normal, 0 … 1
    odds: float = 100_000.0  # of an outage, at which it trips
    per_minute: int = 3  # failures that count per bucket


@dataclass(frozen=True, slots=True)
class LimitsPolicy:
    """What one process holds at most, and for how long."""

    max_in_flight: int
    agent_share: float  # per cent of them that one agent may hold, where there are others
    max_lag: float  # seconds that the event loop may be late
    max_connections: int
    max_body: int
    max_buffered: int
    request_headers: float
    request_body: float
    write_stall: float
    drain: float
    drain_delay: float


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """Where records go."""

    url: str | None = field(repr=False)  # None: they are not kept.  May carry a password
    retention: float
    unit_key: bytes | None = field(repr=False)  # None: made at the first start, and kept beside the store


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """The daily report."""

    at: int | None = None  # minutes after midnight, UTC; None: there is none
    path: str = ""


@dataclass(frozen=True, slots=True)
class ObservabilityPolicy:
    """What is told to whom, besides `/metrics`."""

    log_level: str  # debug | info | warning | error
    export_endpoint: str | None  # the base URL of an OTLP collector; None: nothing is exported
    traces: float  # share of requests, 0 … 1, where no caller has decided
    access_log: float  # share of requests, 0 … 1


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """How models are asked whether they are there, which nobody else has asked of late."""

    every: float  # each of them, at most so often
    timeout: float  # of one probe, to the end of its answer
    daily_usd: float  # of all probes of one process
    finetuned: bool  # False: no fine-tune is in use, so none is asked


@dataclass(frozen=True, slots=True)
class AlertingPolicy:
    """Who is told that something happened."""

    slack_webhook: str | None = field(repr=False)  # None: nobody.  It grants access: a secret


class Address(NamedTuple):
    """Where a listener listens."""

    host: str  # an IPv6 address without its brackets
    port: int  # 0: any free one

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DATA_ADDRESS: Final = Address("127.0.0.1", 8080)  # a sidecar serves its own pod and nobody else
ADMIN_ADDRESS: Final = Address("127.0.0.1", 8081)


@dataclass(frozen=True, slots=True)
class ListenPolicy:
    """Where the two listeners are.  The one thing that only a restart changes."""

    data: Address = DATA_ADDRESS
    admin: Address = ADMIN_ADDRESS
    admin_hosts: tuple[str, ...] = ()  # names that the admin listener may be asked by


@dataclass(frozen=True, slots=True)
class Policy:
    """One loaded policy file."""

    hash: str  # 12 hex digits that name the content of the file, and of the one it extends
    environment: str
    upstreams: Mapping[str, UpstreamPolicy]
    default_upstream: UpstreamPolicy
    identity: IdentityPolicy
    agents: Mapping[bytes, AgentPolicy]
    fallback: FallbackPolicy
    limits: LimitsPolicy
    budget: BudgetPolicy
    store: StorePolicy
    observability: ObservabilityPolicy
    brake: BrakePolicy
    alerting: AlertingPolicy
    listen: ListenPolicy = ListenPolicy()
    report: ReportPolicy = ReportPolicy()
    probe: ProbePolicy | None = None  # None: no model is asked for its health
    # All that holds for every agent, flat, as a diff tells it; two policies that only differ here serve alike.
    settings: Mapping[str, str] = field(default_factory=dict, compare=False)

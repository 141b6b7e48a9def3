"""What a person wrote → what requests are served by.  Pure; the input has been validated."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import orjson

from proxy.policy.address import parse_address, parse_base_url, parse_peers
from proxy.policy.config import (
    AgentConfig,
    AlertingConfig,
    ObservabilityConfig,
    PolicyConfig,
    StoreConfig,
    TargetConfig,
)
from proxy.policy.config_fallback import FallbackConfig
from proxy.policy.config_identity import IdentityConfig, parse_source
from proxy.policy.config_prices import PriceConfig
from proxy.policy.config_probe import ProbeConfig
from proxy.policy.config_shadow import ShadowConfig
from proxy.policy.config_upstream import UpstreamConfig
from proxy.policy.flatten import global_settings
from proxy.policy.snapshot import (
    AgentPolicy,
    AlertingPolicy,
    BrakePolicy,
    BreakerPolicy,
    BudgetPolicy,
    FallbackPolicy,
    IdentityPolicy,
    LimitsPolicy,
    ListenPolicy,
    Network,
    ObservabilityPolicy,
    Policy,
    PoolPolicy,
    Price,
    ProbePolicy,
    ReportPolicy,
    ShadowPolicy,
    StorePolicy,
    Target,
    TimeoutsPolicy,
    UpstreamPolicy,
)
from proxy.words import Dialect, Failure

VARIANT_HEADER = b"x-splitlane-variant"  # ours, so no upstream ever sees it

# `fallback.on` by attribute of FallbackOnConfig.  Every failure that is in no row is the client's own
# or comes after the commit point.
_SWITCHES: Mapping[str, frozenset[Failure]] = {
    "connect": frozenset({Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.RESET, Failure.OVERLOAD}),
    "timeout": frozenset(
        {
            Failure.FIRST_BYTE_TIMEOUT,
            Failure.FIRST_CONTENT_TIMEOUT,
            Failure.IDLE_TIMEOUT,
            Failure.TOTAL_TIMEOUT,
        }
    ),
    "rate_limited": frozenset({Failure.RATE_LIMITED}),
    "server_error": frozenset({Failure.SERVER_ERROR, Failure.STREAM_ERROR, Failure.STREAM_TRUNCATED}),
    "model_gone": frozenset({Failure.MODEL_GONE}),
    "bad_body": frozenset({Failure.BAD_BODY}),
    "empty": frozenset({Failure.EMPTY}),
    "context_length": frozenset({Failure.CONTEXT_LENGTH}),
    "auth": frozenset({Failure.AUTH}),
}

# Our own refusals of the fine-tune: the baseline was always meant to serve these.
_ALWAYS = frozenset({Failure.BREAKER_OPEN, Failure.BRAKE, Failure.BUDGET})


def compile_policy(config: PolicyConfig, digest: str) -> Policy:
    """The frozen policy; `digest` is the file's short hash."""
    upstreams = {name: _upstream(name, upstream) for name, upstream in config.upstreams.items()}
    default = upstreams[config.default_upstream]
    return Policy(
        hash=digest,
        environment=config.environment,
        upstreams=upstreams,
        default_upstream=default,
        identity=_identity(config.identity),
        agents={
            name.encode(): _agent(name, agent, config, upstreams, default) for name, agent in config.agents.items()
        },
        fallback=_fallback(config.fallback, enabled=config.models.fallback_enabled),
        limits=LimitsPolicy(**config.limits.model_dump()),
        budget=_budget(config),
        store=_store(config.store),
        observability=_observability(config.observability),
        brake=BrakePolicy(**config.rollout.brake.model_dump()),
        alerting=_alerting(config.alerting),
        settings=global_settings(config),
        report=ReportPolicy(config.report.at, config.report.path),
        listen=ListenPolicy(
            parse_address(config.listen.data), parse_address(config.listen.admin), config.listen.admin_hosts
        ),
        probe=_probe(config.observability.probe, finetuned=config.models.use_finetuned),
    )


def _upstream(name: str, config: UpstreamConfig) -> UpstreamPolicy:
    url = parse_base_url(config.base_url)
    key = config.api_key
    return UpstreamPolicy(
        name=name,
        tls=url.tls,
        host=url.host,
        port=url.port,
        prefix=url.prefix.encode(),
        host_header=url.host_header.encode(),
        authorization=None if key is None else b"Bearer " + key.get_secret_value().encode(),
        dialect=config.dialect,
        timeouts=TimeoutsPolicy(**config.timeouts.model_dump()),
        pool=PoolPolicy(**config.pool.model_dump()),
        ca_file=config.ca_file,
    )


def _identity(config: IdentityConfig) -> IdentityPolicy:
    agent = tuple(map(parse_source, config.agent))
    user = tuple(map(parse_source, config.user))
    return IdentityPolicy(
        agent=agent,
        user=user,
        keys={digest: name.encode() for digest, name in config.keys.items()},
        on_missing_user=config.on_missing_user,
        allow_override=config.allow_override,
        forward=config.forward,
        # Baggage stays: other services read their own members from it.
        headers=frozenset({VARIANT_HEADER, *(name for kind, name in agent + user if kind == "header")}),
        trusted=_trusted(config.trusted),
    )


def _trusted(peers: Iterable[str]) -> tuple[Network, ...] | None:
    networks: list[Network] = []
    for found in map(parse_peers, peers):
        if found is None:
            return None
        networks += found
    return tuple(networks)


def _store(config: StoreConfig) -> StorePolicy:
    url, key = config.url, config.unit_key
    return StorePolicy(
        url=None if url is None else url.get_secret_value(),
        retention=config.retention,
        unit_key=None if key is None else key.get_secret_value().encode(),
    )


def _observability(config: ObservabilityConfig) -> ObservabilityPolicy:
    return ObservabilityPolicy(
        log_level=config.log_level,
        export_endpoint=config.export_endpoint if config.enabled else None,
        traces=config.traces,
        access_log=config.access_log,
    )


def _probe(config: ProbeConfig, *, finetuned: bool) -> ProbePolicy | None:
    if config.every is None:
        return None
    return ProbePolicy(config.every, config.timeout, config.daily_usd, finetuned)


def _alerting(config: AlertingConfig) -> AlertingPolicy:
    url = config.slack_webhook
    return AlertingPolicy(url.get_secret_value() if url is not None and config.enabled else None)


def _agent(
    name: str,
    config: AgentConfig,
    policy: PolicyConfig,
    upstreams: Mapping[str, UpstreamPolicy],
    default: UpstreamPolicy,
) -> AgentPolicy:
    def target(written: TargetConfig) -> Target:
        upstream = default if written.upstream is None else upstreams[written.upstream]
        price = _price(written.model, upstream.dialect, policy.prices)
        return Target(upstream, written.model, orjson.dumps(written.model), price)

    percentage = _effective_percentage(config, policy)
    salt = config.salt if config.salt is not None else f"{name}/{config.fine_tuned.model}"
    finetuned, baseline = target(config.fine_tuned), target(config.fallback)
    budget = BudgetPolicy(
        config.budgets.hourly_usd,
        config.budgets.daily_usd,
        config.budgets.on_exceeded or policy.budgets.on_exceeded,
    )
    return AgentPolicy(
        name=name,
        salt=salt,
        percentage=percentage,
        threshold=round(percentage * 100),
        everyone=policy.models.use_finetuned and not policy.ab_testing.enabled,
        unleash=(config.compat or policy.compat) == "unleash",
        finetuned=finetuned,
        baseline=baseline,
        defaults=tuple(
            (orjson.dumps(key), orjson.dumps(value))
            for key, value in (("max_tokens", config.max_tokens), ("temperature", config.temperature))
            if value is not None
        ),
        hashed=salt.encode() + b":",
        total=max(finetuned.upstream.timeouts.total, baseline.upstream.timeouts.total),
        max_tokens=config.max_tokens,
        budget=budget,
        budgeted=budget.is_limited or _budget(policy).is_limited,
        shadow=_shadow(name, config.shadow, finetuned) if policy.models.use_finetuned else None,
    )


def _shadow(name: str, config: ShadowConfig, finetuned: Target) -> ShadowPolicy | None:
    """None where nothing is to be copied, and where nobody knows what a copy costs."""
    if not config.percentage or finetuned.price is None:
        return None
    salt = config.salt if config.salt is not None else f"shadow/{name}/{finetuned.model}"
    return ShadowPolicy(
        percentage=config.percentage,
        threshold=round(config.percentage * 100),
        salt=salt,
        hashed=f"{salt}:",
        max_in_flight=config.max_in_flight,
        daily_usd=config.daily_usd,
        timeouts=replace(
            finetuned.upstream.timeouts, first_byte=config.timeout, idle=config.timeout, total=config.timeout
        ),
    )


def _budget(config: PolicyConfig) -> BudgetPolicy:
    return BudgetPolicy(**config.budgets.model_dump())


def _price(model: str, dialect: Dialect, prices: Mapping[str, PriceConfig]) -> Price | None:
    """The model's own entry, else that of the longest pattern it begins with."""
    patterns = [pattern for pattern in prices if pattern.endswith("*") and model.startswith(pattern[:-1])]
    found = prices.get(model) or prices.get(max(patterns, key=len, default=""))
    if found is None:
        return None
    cached = getattr(found.cached_input, dialect.value)
    return Price(found.input, found.output, found.input if cached is None else cached)


def _effective_percentage(agent: AgentConfig, policy: PolicyConfig) -> float:
    """The three switches of DESIGN §3.3 in one number."""
    if not policy.models.use_finetuned:
        return 0.0
    if not policy.ab_testing.enabled:
        return 100.0
    own = agent.rollout_percentage
    return policy.ab_testing.rollout_percentage if own is None else own


def _fallback(config: FallbackConfig, *, enabled: bool) -> FallbackPolicy:
    switched_on = (failures for name, failures in _SWITCHES.items() if getattr(config.on, name))
    return FallbackPolicy(
        enabled=enabled,
        on=_ALWAYS.union(*switched_on),
        retry_finetuned=config.retry.finetuned,
        retry_baseline=config.retry.baseline,
        max_wait=config.retry.max_wait,
        buffer_stream=config.buffer_stream,
        retry_budget_ratio=config.retry_budget.ratio,
        retry_budget_min=config.retry_budget.min,
        breaker=BreakerPolicy(**config.breaker.model_dump()),
    )

"""A compiled policy as flat settings, `key: text`, under the names the policy file has for them.

For comparing and for showing to people.  No secret is among them: of a key only its SHA-256 enters,
as `Secret`, which compares and never shows.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from proxy.policy.snapshot import AgentPolicy, Policy, Source, UpstreamPolicy
from proxy.words import Failure

Settings = Mapping[str, str]

_SIZES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SIZE_KEYS = frozenset({"max_body", "max_buffered"})


class Secret(str):
    """A digest that may be compared and must not be shown; empty where there is no secret."""

    __slots__ = ()


def global_settings(policy: Policy) -> Settings:
    """What holds for all agents."""
    return dict(_global(policy))


def agent_settings(agent: AgentPolicy) -> Settings:
    """What holds for one agent, by keys relative to it."""
    return dict(_agent(agent))


def _global(policy: Policy) -> Iterator[tuple[str, str]]:
    yield "environment", policy.environment
    for name, upstream in policy.upstreams.items():
        yield from ((f"upstreams.{name}.{key}", text) for key, text in _upstream(upstream))
    yield "default_upstream", policy.default_upstream.name
    identity = policy.identity
    yield "identity.agent", _sources(identity.agent)
    yield "identity.user", _sources(identity.user)
    yield "identity.keys", _secret(repr(sorted(identity.keys.items())).encode() if identity.keys else None)
    yield "identity.on_missing_user", identity.on_missing_user
    yield "identity.allow_override", _text(identity.allow_override)
    yield "identity.forward", _text(identity.forward)
    fallback = policy.fallback
    yield "models.fallback_enabled", _text(fallback.enabled)
    for failure in Failure:
        yield f"fallback.on.{failure}", _text(failure in fallback.on)
    yield "fallback.retry.finetuned", _text(fallback.retry_finetuned)
    yield "fallback.retry.baseline", _text(fallback.retry_baseline)
    yield "fallback.retry.max_wait", _duration(fallback.max_wait)
    yield "fallback.buffer_stream", _text(fallback.buffer_stream)
    yield "fallback.retry_budget.ratio", f"{fallback.retry_budget_ratio:g}"
    yield "fallback.retry_budget.min", _text(fallback.retry_budget_min)
    yield from _section("fallback.breaker", fallback.breaker)
    yield from _section("limits", policy.limits)
    yield "observability.log_level", policy.log_level
    yield "listen.data", "{}:{}".format(*policy.listen.data)
    yield "listen.admin", "{}:{}".format(*policy.listen.admin)


def _upstream(upstream: UpstreamPolicy) -> Iterator[tuple[str, str]]:
    scheme = "https" if upstream.tls else "http"
    yield "base_url", f"{scheme}://{upstream.host_header.decode()}{upstream.prefix.decode()}"
    yield "dialect", upstream.dialect.value
    yield "api_key", _secret(upstream.authorization)
    yield "ca_file", _text(upstream.ca_file)
    yield from _section("timeouts", upstream.timeouts)
    yield from _section("pool", upstream.pool)


def _agent(agent: AgentPolicy) -> Iterator[tuple[str, str]]:
    for key, target in (("fine_tuned", agent.finetuned), ("fallback", agent.baseline)):
        yield f"{key}.model", target.model
        yield f"{key}.upstream", target.upstream.name
    # `everyone` shows in the percentage, and in what becomes of requests without a user.
    yield "rollout_percentage", f"{agent.percentage:g}"
    yield "salt", agent.salt
    yield "compat", "unleash" if agent.unleash else "native"
    yield from ((key.decode().strip('"'), value.decode()) for key, value in agent.defaults)


def _section(prefix: str, section: Any) -> Iterator[tuple[str, str]]:
    """A frozen section whose fields are counts (int), sizes (by name) and durations (float)."""
    for each in fields(section):
        value = getattr(section, each.name)
        if each.name in _SIZE_KEYS:
            yield f"{prefix}.{each.name}", _size(value)
        else:
            yield f"{prefix}.{each.name}", _text(value) if isinstance(value, int) else _duration(value)


def _sources(sources: tuple[Source, ...]) -> str:
    texts = (f"{source.kind}:{source.name.decode()}" if source.name else source.kind for source in sources)
    return ", ".join(texts) or "none"


def _secret(value: bytes | None) -> Secret:
    return Secret("" if value is None else hashlib.sha256(value).hexdigest())


def _text(value: bool | int | str | None) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:g}s"


def _size(size: int) -> str:
    return next((f"{size // unit}{name}" for name, unit in _SIZES if size and size % unit == 0), f"{size}B")

"""A policy's settings, flat: `key: text`, under the names the policy file has for them.  Pure.

For comparing and for showing to people.  No secret is among them: of a key only its SHA-256 enters,
as `Secret`, which compares and never shows.
"""

from collections.abc import Iterator, Mapping

from proxy.policy.snapshot import AgentPolicy, UpstreamPolicy

Settings = Mapping[str, str]


class Secret(str):
    """A digest that may be compared and must not be shown; empty where there is no secret."""

    __slots__ = ()


def agent_settings(agent: AgentPolicy) -> Settings:
    """What holds for one agent, by keys relative to it."""
    return dict(_agent(agent))


def base_url(upstream: UpstreamPolicy) -> str:
    """Where an upstream is, without `/v1` and without a trailing slash."""
    scheme = "https" if upstream.tls else "http"
    return f"{scheme}://{upstream.host_header.decode()}{upstream.prefix.decode()}"


def _agent(agent: AgentPolicy) -> Iterator[tuple[str, str]]:
    for key, target in (("fine_tuned", agent.finetuned), ("fallback", agent.baseline)):
        yield f"{key}.model", target.model
        yield f"{key}.upstream", target.upstream.name
    # `everyone` shows in the percentage, and in what becomes of requests without a user.
    yield "rollout_percentage", f"{agent.percentage:g}"
    yield "salt", agent.salt
    yield "compat", "unleash" if agent.unleash else "native"
    budget = agent.budget
    if budget.is_limited:
        yield "budgets.hourly_usd", text(budget.hourly_usd)
        yield "budgets.daily_usd", text(budget.daily_usd)
        yield "budgets.on_exceeded", budget.on_exceeded
    if (shadow := agent.shadow) is not None:
        yield "shadow.percentage", f"{shadow.percentage:g}"
        yield "shadow.salt", shadow.salt
        yield "shadow.max_in_flight", text(shadow.max_in_flight)
        yield "shadow.daily_usd", text(shadow.daily_usd)
        yield "shadow.timeout", f"{shadow.timeouts.total:g}s"
    yield from ((key.decode().strip('"'), value.decode()) for key, value in agent.defaults)


def text(value: object) -> str:
    """One value as a policy file says it."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)

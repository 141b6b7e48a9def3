"""How every agent is served, from what has been seen: no upstream is asked for an answer of these routes.

An agent is ERROR where its fine-tune is not asked, where too many requests fail or had to be rescued, or where
one of its models fails its probes; SLOW where its answers take too long.  The limits are those of the alerts of
the same meaning.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping

from aiohttp import web

from proxy.admin.answers import UNKNOWN_AGENT, error_answer, json_answer, utc_time
from proxy.admin.rollout import show_brake
from proxy.admin.seen import Seen
from proxy.exchange.exchange import Exchange
from proxy.exchange.probes import ProbedModel, Probes
from proxy.policy.snapshot import AgentPolicy
from proxy.telemetry.recent import WINDOW, Outcomes
from proxy.words import Variant

# Requests below which a share says nothing.
LEAST = 20
MAX_FAILED = 0.05
MAX_RESCUED = 0.10
SLOW = 5.0  # seconds, the 95th percentile

# Agents that are looked at before requests have their turn: a millisecond's.
SLICE = 25

_NOBODY = Outcomes(0, 0, 0, None)


def symptoms(outcomes: Outcomes) -> list[str]:
    """What is wrong with the recent requests of one variant."""
    requests, failed, rescued, p95 = outcomes
    if requests < LEAST:
        return []
    found = {
        "failing": failed > MAX_FAILED * requests,
        "rescued": rescued > MAX_RESCUED * requests,
        "slow": p95 is not None and p95 > SLOW,
    }
    return [name for name, holds in found.items() if holds]


async def in_slices(agents: Iterable[AgentPolicy]) -> AsyncIterator[AgentPolicy]:
    """All of them, however many there are, between requests."""
    for number, agent in enumerate(agents, 1):
        yield agent
        if number % SLICE == 0:
            await asyncio.sleep(0)


class HealthRoutes:
    """Handlers over the exchange, what has been seen of requests, and the probes."""

    def __init__(self, exchange: Exchange, seen: Seen, probes: Probes) -> None:
        self._exchange = exchange
        self._seen = seen
        self._probes = probes

    async def all(self, _: web.Request) -> web.Response:
        """GET /health: every agent.  200 also while degraded: users are being served."""
        await self._seen.refresh()
        policy = self._exchange.policy
        agents = await self.agents()
        degraded = any(agent["status"] != "OK" for agent in agents.values())
        return json_answer(
            {
                "status": "degraded" if degraded else "healthy",
                "policy": policy.hash,
                "window_seconds": WINDOW,
                "agents": agents,
            }
        )

    async def one(self, request: web.Request) -> web.Response:
        """GET /health/AGENT: one agent."""
        name = request.match_info["agent"].encode("utf-8", "surrogateescape")
        agent = self._exchange.policy.agents.get(name)
        if agent is None:
            return error_answer(UNKNOWN_AGENT)
        await self._seen.refresh()
        return json_answer({"agent": agent.name, **self._judge(agent, self._outcomes())})

    async def agents(self) -> dict[str, dict[str, object]]:
        """Every agent by its name, as the answers have it."""
        outcomes = self._outcomes()
        found = {}
        async for agent in in_slices(self._exchange.policy.agents.values()):
            found[agent.name] = self._judge(agent, outcomes)
        return found

    def _outcomes(self) -> Mapping[tuple[str, str], Outcomes]:
        self._seen.flush()
        return self._seen.recent.outcomes()

    def _judge(self, agent: AgentPolicy, outcomes: Mapping[tuple[str, str], Outcomes]) -> dict[str, object]:
        brake = self._exchange.attempts.brakes.tripped.get(agent.name)
        is_open = self._seen.breaker_is_open(agent)
        arms = {variant.value: outcomes.get((agent.name, variant.value), _NOBODY) for variant in Variant}
        probed = {
            Variant.FINETUNED.value: self._probes.of(agent.finetuned),
            Variant.BASELINE.value: self._probes.of(agent.baseline),
        }
        reasons = [name for name, holds in (("brake", brake is not None), ("breaker_open", is_open)) if holds]
        seen = {name for arm in arms.values() for name in symptoms(arm)}
        if any(model is not None and self._probes.is_failing(model) for model in probed.values()):
            seen.add("probe_failing")
        reasons += [name for name in ("failing", "rescued", "probe_failing", "slow") if name in seen]
        return {
            "status": "OK" if not reasons else "SLOW" if reasons == ["slow"] else "ERROR",
            "reasons": reasons,
            "percentage": agent.percentage,
            "brake": show_brake(brake),
            "breaker": "open" if is_open else "closed",
            **{
                name: {
                    "requests": arm.requests,
                    "failed": arm.failed,
                    "rescued": arm.rescued,
                    "p95_seconds": None if arm.p95 is None else round(arm.p95, 3),
                    "probe": _show_probe(probed[name]),
                }
                for name, arm in arms.items()
            },
        }


def _show_probe(model: ProbedModel | None) -> dict[str, object] | None:
    """The last probe of a model; None where there was none."""
    if model is None or not model.at:
        return None
    return {
        "model": model.target.model,
        "ok": model.failure is None,
        "reason": model.failure,
        "seconds": round(model.seconds, 3),
        "at": utc_time(model.at),
        "age_seconds": round(max(0.0, time.time() - model.at), 1),
    }

"""What the dashboard shows, as plain data: how this process serves now, and what the store's report says.

Times are Unix seconds, durations seconds, costs US dollars, shares 0 … 1, percentages of users 0 … 100.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from proxy import __version__
from proxy.admin.health import HealthRoutes, in_slices
from proxy.admin.seen import Seen
from proxy.exchange.exchange import Exchange
from proxy.experiment.percentages import switched_off
from proxy.policy.snapshot import AgentPolicy
from proxy.policy.store import PolicyStore
from proxy.telemetry.metrics import LATENCY_BUCKETS, TTFT_BUCKETS, Histogram, ModelSeries
from proxy.telemetry.recent import WINDOW, quantile
from proxy.words import Assignment, Variant

_ARMS = (Assignment.FINETUNED.value, Assignment.BASELINE.value)


class _Sums:
    """One agent and variant since the process started."""

    def __init__(self, models: Iterable[ModelSeries]) -> None:
        self.requests = 0
        self.ok = 0
        self.cost = 0.0
        self.latency = Histogram(LATENCY_BUCKETS)
        self.ttft = Histogram(TTFT_BUCKETS)
        for each in models:
            self.ok += each.successes
            self.requests += each.successes + sum(each.outcomes.values())
            self.cost += each.cost
            for total, part in ((self.latency, each.latency), (self.ttft, each.ttft)):
                total.counts = [one + more for one, more in zip(total.counts, part.counts, strict=True)]

    def as_json(self) -> dict[str, object]:
        """With what a report's group has, under the same names."""
        return {
            "requests": self.requests,
            "ok": self.ok,
            "success": self.ok / self.requests if self.requests else None,
            "latency_seconds": _quantiles(self.latency),
            "ttft_seconds": _quantiles(self.ttft),
            "cost_usd": self.cost,
            "cost_usd_per_request": self.cost / self.requests if self.requests else None,
        }


class DashboardState:
    """Looks at one process; nothing is kept between two looks."""

    def __init__(
        self,
        exchange: Exchange,
        store: PolicyStore,
        seen: Seen,
        health: HealthRoutes,
        readiness: Callable[[], str],
        *,
        may_act: bool,
    ) -> None:
        """`may_act`: whether there is a token that opens what changes something."""
        self._exchange = exchange
        self._store = store
        self._seen = seen
        self._health = health
        self._readiness = readiness
        self._may_act = may_act
        self._started = time.time()

    async def live(self) -> dict[str, Any]:
        """This process now."""
        policy, active = self._exchange.policy, self._store.active
        now = time.time()
        series: defaultdict[tuple[str, str], list[ModelSeries]] = defaultdict(list)
        for (name, variant, _), models in self._seen.metrics.series():
            series[name, variant].append(models)
        fallbacks: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (name, reason), count in self._seen.metrics.fallbacks():
            fallbacks[name][reason] = count
        steps = [{"percent": step.percent, "approval": step.approval} for step in active.config.rollout.plan]
        budgets: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for status in self._exchange.budgets.status(policy, now):
            budgets[status.scope].append(status._asdict())
        health = await self._health.agents()
        agents = [
            {
                "agent": agent.name,
                "models": _models(agent),
                **health[agent.name],
                "fallbacks": fallbacks[agent.name],
                "since_start": {arm: _Sums(series[agent.name, arm]).as_json() for arm in _ARMS},
                "budgets": budgets[agent.name],
            }
            async for agent in in_slices(policy.agents.values())
            if agent.name in health  # not so where the policy has changed meanwhile
        ]
        rejection = self._store.rejection
        return {
            "now": now,
            "started": self._started,
            "version": __version__,
            "environment": policy.environment,
            "policy": policy.hash,
            "rejected": 0 if rejection is None else len(rejection.problems),
            "switched_off": switched_off(active.config),
            "stored": policy.store.url is not None,
            "may_act": self._may_act,
            "readiness": self._readiness(),
            "in_flight": self._seen.in_flight(),
            "window": WINDOW,
            "steps": steps,
            "budgets": budgets["all"],
            "agents": agents,
        }


def told_of(report: bytes) -> dict[str, Any]:
    """What is shown of a report as JSON; of a store without verdicts, which is of an older version, no verdict."""
    found = orjson.loads(report)
    return {
        "generated_at": found["generated_at"],
        "agents": {
            each["agent"]: {
                "verdict": each.get("verdict"),
                "arms": {group["assignment"]: group for group in each["groups"] if group["compared"]},
            }
            for each in found["agents"]
        },
    }


def _models(agent: AgentPolicy) -> dict[str, str]:
    return {Variant.FINETUNED.value: agent.finetuned.model, Variant.BASELINE.value: agent.baseline.model}


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    return {name: quantile(histogram.counts, share, histogram.bounds) for name, share in (("p50", 0.5), ("p95", 0.95))}

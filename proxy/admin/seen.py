"""How requests went, as the admin listener sees it: in one process, or in all workers together."""

from collections.abc import Iterator
from typing import Protocol, cast

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from proxy.exchange.exchange import Exchange
from proxy.policy.snapshot import AgentPolicy
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import Recent
from proxy.telemetry.totals import worker_families


class Seen(Protocol):
    """What has been counted, and what is now."""

    metrics: Metrics
    recent: Recent

    def flush(self) -> None:
        """Count what is settled here."""

    async def refresh(self) -> None:
        """Have what everybody has counted."""

    def collectors(self) -> list[Collector]:
        """What a scrape of `/metrics` gets."""

    def in_flight(self) -> int:
        """Requests being served."""

    def breaker_is_open(self, agent: AgentPolicy) -> bool:
        """Whether an agent's fine-tune is not called."""


class SeenHere:
    """One process's."""

    def __init__(self, exchange: Exchange, metrics: Metrics) -> None:
        self.metrics = metrics
        self.recent = Recent(metrics)
        self._exchange = exchange

    def flush(self) -> None:
        self._exchange.flush()

    async def refresh(self) -> None:
        self._exchange.flush()

    def collectors(self) -> list[Collector]:
        found = (self.metrics, ProcessCollector(registry=None), _Alone())
        return [cast("Collector", each) for each in found]  # they have all that a registry calls

    def in_flight(self) -> int:
        return self._exchange.in_flight

    def breaker_is_open(self, agent: AgentPolicy) -> bool:
        return self._exchange.attempts.breaker(agent.finetuned).is_open


class _Alone:
    """One process, as the parent of several would tell of it."""

    def collect(self) -> Iterator[Metric]:
        return worker_families(1, {})

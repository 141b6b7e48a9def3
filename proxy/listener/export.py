"""The policy's OTLP export, switched on and off: an exporter, its sink, and the share that is traced.

OpenTelemetry's packages are an extra, and imported with the first policy that names an endpoint.
Without them the proxy serves all the same, exports nothing, and says once what is missing.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, Metric

from proxy.ledger import Sink
from proxy.policy.snapshot import Policy, UpstreamPolicy
from proxy.telemetry.metrics import Metrics
from proxy.words import Dialect

if TYPE_CHECKING:
    from proxy.telemetry.exporter import Exporter
    from proxy.telemetry.otlp import Peer

log = logging.getLogger("splitlane.telemetry")

# The conventions' words for who answers; an upstream is named by the dialect it speaks.
_PROVIDERS = {Dialect.OPENAI: "openai", Dialect.MISTRAL: "mistral_ai"}
_SIGNALS = ("traces", "metrics")
# How often the end looks whether the last export is done, seconds.
_POLL = 0.01


class Export:
    """What the service has of OpenTelemetry."""

    def __init__(self, metrics: Metrics) -> None:
        """`metrics`: counters that are zero now."""
        self._metrics = metrics
        self._since = time.time_ns()
        self._exporter: Exporter | None = None
        self._is_missing = False
        self.sinks: list[Sink] = []  # who gets records under the active policy
        self.trace_share: float | None = None  # of requests whose caller does not decide; None: tracing is off

    def adopt(self, policy: Policy) -> None:
        """Export what `policy` says, where it says, from now on."""
        endpoint = policy.observability.export_endpoint
        self.sinks, self.trace_share = [], None
        if endpoint is not None and self._exporter is None and not self._is_missing:
            self._start()
        exporter = self._exporter
        if exporter is None:
            return
        if endpoint is not None:
            self.sinks, self.trace_share = [exporter.take], policy.observability.traces
        _follow(exporter, policy)

    async def close(self) -> None:
        """Export what there is, within a second or so."""
        exporter = self._exporter
        if exporter is None:
            return
        loop = asyncio.get_running_loop()
        late = loop.time() + exporter.end()
        while not exporter.has_ended and loop.time() < late:
            await asyncio.sleep(_POLL)
        exporter.cut()

    def collect(self) -> Iterator[Metric]:
        """How much got through."""
        counts = dict.fromkeys(_SIGNALS, (0, 0))
        if (exporter := self._exporter) is not None:
            for signal in (exporter.traces, exporter.metrics):
                counts[signal.name] = (signal.exported, signal.dropped + signal.overflowed)
        exported = CounterMetricFamily(
            "splitlane_otel_exported", "Spans and data points that the collector took.", labels=["signal"]
        )
        dropped = CounterMetricFamily(
            "splitlane_otel_dropped", "Spans and data points that it did not, or that found the queue full.",
            labels=["signal"],
        )  # fmt: skip
        for name, (taken, lost) in counts.items():
            exported.add_metric([name], taken)
            dropped.add_metric([name], lost)
        yield exported
        yield dropped

    def _start(self) -> None:
        try:
            from proxy.telemetry.exporter import Exporter  # noqa: PLC0415 an extra
        except ImportError:
            self._is_missing = True
            log.warning("observability.export_endpoint is set, but nothing is exported: pip install 'splitlane[otel]'")
        else:
            self._exporter = Exporter(self._metrics, self._since)


def _follow(exporter: "Exporter", policy: Policy) -> None:
    from proxy.telemetry.otlp import Peers  # noqa: PLC0415 of the extra

    peers = {name: _peer(upstream) for name, upstream in policy.upstreams.items()}
    targets = [target for agent in policy.agents.values() for target in (agent.baseline, agent.finetuned)]
    providers = {target.model: peers[target.upstream.name].provider for target in targets}
    exporter.follow(policy.observability.export_endpoint or "", Peers(peers, providers))


def _peer(upstream: UpstreamPolicy) -> "Peer":
    from proxy.telemetry.otlp import Peer  # noqa: PLC0415 of the extra

    return Peer(upstream.host, upstream.port, _PROVIDERS[upstream.dialect])

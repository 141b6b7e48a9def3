"""The counters of `Metrics` as OTLP data points: cumulative, and under the names of DESIGN §3.7.

Read from another thread while the event loop counts on: each number is whole, two of them may be a
request apart.
"""

from collections.abc import Iterable, Mapping, Sequence

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram as Distribution
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from proxy.telemetry.metrics import OTHER, Histogram, Metrics
from proxy.telemetry.otlp import SCOPE, known, politely

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_MILLI = 1000


class MetricsEncoder:
    """Makes export requests of one process's counters."""

    def __init__(self, metrics: Metrics, resource: Resource, since: int) -> None:
        """`since`: Unix nanoseconds at which the counters were zero."""
        self._metrics = metrics
        self._resource = resource
        self._since = since

    def encode(self, providers: Mapping[str, str], now: int) -> tuple[bytes, int]:
        """An export request as of `now`, Unix nanoseconds, and how many data points it has.

        `providers`: who serves a model, by its name.
        """
        stamp = _Stamp(self._since, now)
        requests: list[NumberDataPoint] = []
        errors: list[NumberDataPoint] = []
        tokens: list[NumberDataPoint] = []
        costs: list[NumberDataPoint] = []
        latencies: list[HistogramDataPoint] = []
        firsts: list[HistogramDataPoint] = []
        for (agent, variant, model), series in politely(self._metrics.series()):
            labels = _labels(agent=agent, variant=variant, model=model)
            if model != OTHER:
                labels += _labels(**{"gen_ai.operation.name": "chat", "gen_ai.request.model": model})
                if model in providers:
                    labels += _labels(**{"gen_ai.provider.name": providers[model]})
            requests.append(stamp.number([*labels, *_labels(outcome="success")], series.successes))
            for outcome, count in list(series.outcomes.items()):
                requests.append(stamp.number([*labels, *_labels(outcome=outcome)], count))
            for reason, count in list(series.errors.items()):
                errors.append(stamp.number([*labels, *_labels(reason=reason, **{"error.type": reason})], count))
            for kind, count in series.tokens.items():
                tokens.append(stamp.number([*labels, *_labels(type=kind, **{"gen_ai.token.type": kind})], count))
            costs.append(stamp.number(labels, series.cost))
            latencies.append(stamp.histogram(labels, series.latency, _MILLI))
            firsts.append(stamp.histogram(labels, series.ttft))
        fallbacks = [
            stamp.number(_labels(agent=agent, reason=reason), count)
            for (agent, reason), count in self._metrics.fallbacks()
        ]
        overhead = [stamp.histogram([], self._metrics.overhead)]
        metrics = [
            _sum("model.requests", "{request}", requests),
            _histogram("model.latency_ms", "ms", latencies),
            _histogram("gen_ai.client.operation.time_to_first_chunk", "s", firsts),
            _sum("model.errors", "{request}", errors),
            _sum("model.fallbacks", "{request}", fallbacks),
            _sum("model.cost_usd", "{USD}", costs),
            _sum("gen_ai.client.token.usage", "{token}", tokens),
            _histogram("splitlane.overhead", "s", overhead),
        ]
        scope = ScopeMetrics(scope=SCOPE, metrics=metrics)
        request = ExportMetricsServiceRequest(
            resource_metrics=[ResourceMetrics(resource=self._resource, scope_metrics=[scope])]
        )
        numbers = (requests, errors, tokens, costs, fallbacks)
        histograms = (latencies, firsts, overhead)
        points = sum(len(each) for each in numbers) + sum(len(each) for each in histograms)
        return request.SerializeToString(), points


class _Stamp:
    """Makes data points of one moment."""

    def __init__(self, since: int, now: int) -> None:
        self._since = since
        self._now = now

    def number(self, labels: Iterable[KeyValue], value: float) -> NumberDataPoint:
        point = NumberDataPoint(attributes=labels, start_time_unix_nano=self._since, time_unix_nano=self._now)
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
        return point

    def histogram(self, labels: Iterable[KeyValue], values: Histogram, scale: int = 1) -> HistogramDataPoint:
        counts = values.counts.copy()
        return HistogramDataPoint(
            attributes=labels,
            start_time_unix_nano=self._since,
            time_unix_nano=self._now,
            count=sum(counts),
            sum=values.total * scale,
            bucket_counts=counts,
            explicit_bounds=[bound * scale for bound in values.bounds],
        )


def _labels(**labels: str) -> list[KeyValue]:
    return [known(key, value) for key, value in labels.items()]


def _sum(name: str, unit: str, points: Sequence[NumberDataPoint]) -> Metric:
    data = Sum(data_points=points, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
    return Metric(name=name, unit=unit, sum=data)


def _histogram(name: str, unit: str, points: Sequence[HistogramDataPoint]) -> Metric:
    data = Distribution(data_points=points, aggregation_temporality=_CUMULATIVE)
    return Metric(name=name, unit=unit, histogram=data)

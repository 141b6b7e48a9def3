"""The counters as a collector gets them: names, types, units and labels of DESIGN §3.7."""

import threading
from dataclasses import replace

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from proxy.telemetry.metrics import LATENCY_BUCKETS, OTHER, Metrics
from proxy.telemetry.otlp import resource_of
from proxy.telemetry.otlp_metrics import MetricsEncoder
from proxy.words import Attempt, Failure
from tests.support.collector import plain
from tests.support.records import SOUND as SUCCESS
from tests.telemetry.test_metrics import FINETUNED, KNOWN

SINCE, NOW = 1_700_000_000_000_000_000, 1_700_000_010_000_000_000
MODEL = {
    "agent": "qa_agent",
    "variant": "finetuned",
    "model": FINETUNED,
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": FINETUNED,
    "gen_ai.provider.name": "mistral_ai",
}


def exported(metrics: Metrics) -> dict[str, Metric]:
    body, points = MetricsEncoder(metrics, resource_of({}), SINCE).encode({FINETUNED: "mistral_ai"}, NOW)
    (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    (scope,) = resource.scope_metrics
    assert points == sum(len(each.sum.data_points) + len(each.histogram.data_points) for each in scope.metrics)
    assert plain(resource.resource.attributes)["service.name"] == "splitlane"
    return {each.name: each for each in scope.metrics}


def counted() -> Metrics:
    metrics = Metrics(lambda: KNOWN, lambda: ())
    metrics.settle(replace(SUCCESS, attempts=(Attempt("up", FINETUNED, 200, None, 0.0, 1.0, None, 0.002),)))
    metrics.settle(replace(SUCCESS, latency=3.0, ttft=-1.0))
    metrics.settle(replace(SUCCESS, failure=Failure.RESET, status=502, served="", usage=None, cost=0.0))
    metrics.settle(replace(SUCCESS, fallback=Failure.RATE_LIMITED))
    return metrics


def test_names_types_and_units_are_the_designs() -> None:
    kinds = {name: (each.WhichOneof("data"), each.unit) for name, each in exported(counted()).items()}
    assert kinds == {
        "model.requests": ("sum", "{request}"),
        "model.latency_ms": ("histogram", "ms"),
        "gen_ai.client.operation.time_to_first_chunk": ("histogram", "s"),
        "model.errors": ("sum", "{request}"),
        "model.fallbacks": ("sum", "{request}"),
        "model.cost_usd": ("sum", "{USD}"),
        "gen_ai.client.token.usage": ("sum", "{token}"),
        "splitlane.overhead": ("histogram", "s"),
    }


def test_everything_is_cumulative_since_the_start() -> None:
    for metric in exported(counted()).values():
        data = metric.sum if metric.HasField("sum") else metric.histogram
        assert data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        assert {(each.start_time_unix_nano, each.time_unix_nano) for each in data.data_points} == {(SINCE, NOW)}
        assert not metric.HasField("sum") or metric.sum.is_monotonic


def test_requests_are_counted_by_outcome() -> None:
    points = exported(counted())["model.requests"].sum.data_points
    found = {(plain(each.attributes)["model"], plain(each.attributes)["outcome"]): each.as_int for each in points}
    assert found == {(FINETUNED, "success"): 3, (OTHER, "success"): 0, (OTHER, "reset"): 1}
    assert plain(points[0].attributes) == {**MODEL, "outcome": "success"}


def test_latency_is_a_histogram_in_milliseconds() -> None:
    point = exported(counted())["model.latency_ms"].histogram.data_points[0]
    assert plain(point.attributes) == MODEL
    assert list(point.explicit_bounds) == [bound * 1000 for bound in LATENCY_BUCKETS]
    assert (point.count, sum(point.bucket_counts), len(point.bucket_counts)) == (3, 3, len(LATENCY_BUCKETS) + 1)
    assert abs(point.sum - 5400) < 0.01
    # Upper bounds are inclusive: 3.0 s is in the bucket that ends there.
    assert point.bucket_counts[LATENCY_BUCKETS.index(3.0)] == 1


def test_first_chunk_is_a_histogram_of_streams_in_seconds() -> None:
    point = exported(counted())["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points[0]
    assert point.count == 2
    assert abs(point.sum - 0.8) < 1e-9


def test_tokens_errors_fallbacks_and_cost_have_the_conventions_labels_too() -> None:
    metrics = exported(counted())
    tokens = metrics["gen_ai.client.token.usage"].sum.data_points
    assert {plain(each.attributes)["gen_ai.token.type"]: each.as_int for each in tokens} == {
        "input": 57, "output": 30, "cached": 24, "reasoning": 12,
    }  # fmt: skip
    assert plain(tokens[0].attributes) == {**MODEL, "type": "input", "gen_ai.token.type": "input"}
    (error,) = metrics["model.errors"].sum.data_points
    assert plain(error.attributes) == {
        "agent": "qa_agent", "variant": "finetuned", "model": OTHER, "reason": "reset", "error.type": "reset",
    }  # fmt: skip
    (fallback,) = metrics["model.fallbacks"].sum.data_points
    assert (plain(fallback.attributes), fallback.as_int) == ({"agent": "qa_agent", "reason": "rate_limited"}, 1)
    costs = {plain(each.attributes)["model"]: each.as_double for each in metrics["model.cost_usd"].sum.data_points}
    assert abs(costs[FINETUNED] - 0.002) < 1e-9
    (overhead,) = metrics["splitlane.overhead"].histogram.data_points
    assert overhead.count == 4


def test_export_while_the_loop_counts_on_is_whole() -> None:
    metrics = counted()
    encoder = MetricsEncoder(metrics, resource_of({}), SINCE)
    ended = threading.Event()

    def count() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            agent = f"agent-{number % 50}"
            metrics.settle(replace(SUCCESS, agent=agent, failure=list(Failure)[number % len(Failure)]))
            metrics.settle(replace(SUCCESS, agent=agent, fallback=Failure.RESET))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(5):
            encoder.encode({}, NOW)
    finally:
        ended.set()
        thread.join()

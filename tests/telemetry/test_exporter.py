"""What gets through to a collector, what is kept, what is dropped, and that all of it is counted."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from proxy.telemetry import exporter as module
from proxy.telemetry.exporter import BATCH, FAREWELL, QUEUED, Exporter
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.otlp import Peers
from tests.support.collector import Collector, Reply, collector, liar
from tests.support.records import SOUND as SUCCESS
from tests.telemetry.test_otlp_spans import RESCUED

NO_PEERS = Peers({}, {})
SPANS = 3  # of RESCUED


@contextmanager
def exporting(endpoint: str) -> Iterator[Exporter]:
    exporter = Exporter(Metrics(lambda: frozenset(), lambda: ()), 1)
    exporter.follow(endpoint, NO_PEERS)
    try:
        yield exporter
    finally:
        ended(exporter)


def ended(exporter: Exporter) -> float:
    """Seconds that the end took."""
    started = time.monotonic()
    exporter.end()
    until(lambda: exporter.has_ended, FAREWELL + 1)
    return time.monotonic() - started


def until(holds: object, within: float = 5.0) -> None:
    late = time.monotonic() + within
    assert callable(holds)
    while not holds():
        assert time.monotonic() < late
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPANS_EVERY", 0.02)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)


def refusing(otlp: Collector, status: int, **headers: str) -> None:
    otlp.answer = lambda _: Reply(status, b"", headers)


def test_spans_are_exported_soon_and_counted() -> None:
    with collector() as otlp, exporting(otlp.url) as exporter:
        exporter.settle(RESCUED)
        exporter.settle(SUCCESS)  # not traced
        until(lambda: exporter.traces.exported == SPANS)
        assert len(otlp.spans) == SPANS


def test_metrics_are_exported_at_their_interval_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "METRICS_EVERY", 0.1)
    with collector() as otlp:
        with exporting(otlp.url) as exporter:
            until(lambda: len(otlp.metric_requests) >= 3)
            before = len(otlp.metric_requests)
        assert len(otlp.metric_requests) > before
        assert exporter.metrics.exported >= 3


def test_end_exports_what_is_queued_in_batches() -> None:
    with collector() as otlp:
        exporter = Exporter(Metrics(lambda: frozenset(), lambda: ()), 1)
        for _ in range(BATCH + 1):
            exporter.settle(RESCUED)
        exporter.follow(otlp.url, NO_PEERS)
        assert ended(exporter) < FAREWELL
        assert len(otlp.spans) == exporter.traces.exported == SPANS * (BATCH + 1)
        assert len(otlp.bodies("/v1/traces")) == 2


def test_full_queue_drops_what_comes_and_counts_it() -> None:
    exporter = Exporter(Metrics(lambda: frozenset(), lambda: ()), 1)  # with nobody to export to
    for _ in range(QUEUED + 10):
        exporter.settle(RESCUED)
    assert exporter.traces.overflowed == 10 * SPANS
    ended(exporter)
    assert exporter.traces.dropped == QUEUED * SPANS


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_spans_that_cannot_be_taken_now_are_sent_again(status: int) -> None:
    with collector() as otlp, exporting(otlp.url) as exporter:
        refusing(otlp, status)
        exporter.settle(RESCUED)
        until(lambda: len(otlp.posts) >= 3)
        assert (exporter.traces.exported, exporter.traces.dropped) == (0, 0)
        otlp.answer = lambda _: Reply()
        until(lambda: exporter.traces.exported == SPANS)
        assert len(set(otlp.bodies("/v1/traces"))) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
def test_spans_that_are_refused_are_dropped(status: int) -> None:
    with collector() as otlp, exporting(otlp.url) as exporter:
        refusing(otlp, status)
        exporter.settle(RESCUED)
        until(lambda: exporter.traces.dropped == SPANS)
        otlp.answer = lambda _: Reply()
        exporter.settle(RESCUED)
        until(lambda: exporter.traces.exported == SPANS)
        assert len(otlp.bodies("/v1/traces")) == 2


def test_retry_after_is_kept_to() -> None:
    with collector() as otlp, exporting(otlp.url) as exporter:
        refusing(otlp, 429, **{"Retry-After": "9"})
        exporter.settle(RESCUED)
        until(lambda: len(otlp.posts) == 1)
        time.sleep(0.3)
        assert len(otlp.posts) == 1


@pytest.mark.parametrize(("said", "rejected"), [(2, 2), (-5, 0), (10**12, SPANS)])
def test_partial_success_is_counted_as_far_as_it_makes_sense(said: int, rejected: int) -> None:
    answer = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=said))
    with collector() as otlp, exporting(otlp.url) as exporter:
        otlp.answer = lambda _: Reply(200, answer.SerializeToString())
        exporter.settle(RESCUED)
        until(lambda: bool(exporter.traces.exported + exporter.traces.dropped))
        assert (exporter.traces.exported, exporter.traces.dropped) == (SPANS - rejected, rejected)


@pytest.mark.parametrize("body", [b"\xff" * 5000, b"<html>", b'{"ok":true}'])
def test_garbage_with_status_200_is_a_success(body: bytes) -> None:
    with collector() as otlp, exporting(otlp.url) as exporter:
        otlp.answer = lambda _: Reply(200, body)
        exporter.settle(RESCUED)
        until(lambda: exporter.traces.exported == SPANS)


def test_another_endpoint_gets_what_the_first_did_not_take() -> None:
    with liar(lambda sock: None) as url, collector() as otlp, exporting(url) as exporter:
        exporter.settle(RESCUED)
        time.sleep(0.1)  # it is being sent, and never will be
        exporter.follow(otlp.url, NO_PEERS)
        until(lambda: exporter.traces.exported == SPANS, within=1)
        assert len(otlp.spans) == SPANS


def test_no_endpoint_any_more_drops_what_waits() -> None:
    with liar(lambda sock: None) as url, exporting(url) as exporter:
        exporter.settle(RESCUED)
        time.sleep(0.1)
        exporter.follow("", NO_PEERS)
        until(lambda: exporter.traces.dropped == SPANS, within=1)


def test_end_does_not_wait_for_a_collector_that_hangs() -> None:
    with liar(lambda sock: None) as url:
        exporter = Exporter(Metrics(lambda: frozenset(), lambda: ()), 1)
        exporter.follow(url, NO_PEERS)
        exporter.settle(RESCUED)
        assert ended(exporter) < FAREWELL + 0.5


def test_log_has_a_line_for_each_change_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "splitlane.telemetry")
    with collector() as otlp, exporting(otlp.url) as exporter:
        refusing(otlp, 503)
        exporter.settle(RESCUED)
        until(lambda: len(otlp.posts) >= 4)
        otlp.answer = lambda _: Reply()
        until(lambda: exporter.traces.exported == SPANS)
        exporter.settle(RESCUED)
        until(lambda: exporter.traces.exported == 2 * SPANS)
    assert [record.getMessage() for record in caplog.records] == [
        f"{otlp.url} does not take traces: status 503; requests are not affected",
        f"{otlp.url} takes traces again",
    ]


def test_secret_of_the_environment_is_sent_and_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret,s3cret-without-a-name")
    with collector() as otlp:
        with exporting(otlp.url) as exporter:
            refusing(otlp, 500)
            exporter.settle(RESCUED)
            until(lambda: bool(otlp.posts))
        assert {post.headers["x-key"] for post in otlp.posts} == {"s3cret"}
    assert "1 members of OTEL_EXPORTER_OTLP_HEADERS" in caplog.text
    assert "s3cret" not in caplog.text


def test_fault_of_ours_is_logged_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LAST_PAUSE", 0.05)
    with collector() as otlp, exporting(otlp.url) as exporter:
        exporter.settle(replace(RESCUED, trace=RESCUED.trace and RESCUED.trace._replace(span="no hex")))
        until(lambda: "an export failed inside the proxy" in caplog.text)
        assert exporter.traces.dropped == SPANS
        exporter.settle(RESCUED)
        until(lambda: exporter.traces.exported == SPANS)

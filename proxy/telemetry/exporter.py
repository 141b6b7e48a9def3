"""Metrics and traces to an OTLP collector, from a thread of their own.

- A request's part is one append to a bounded queue; when that is full, its spans are dropped and counted.
- Nothing waits for the collector.  What it cannot take now is kept, within the queue, and tried again;
  what it refuses is dropped.  Counters are cumulative: of them nothing is kept.
- The end takes at most `FAREWELL`, whatever the collector does.
- The log has one line when a signal stops getting through, and one when it does again.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from proxy.telemetry.collector import Answer, Collector, CollectorError, export_headers
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.otlp import Peers, resource_of
from proxy.telemetry.otlp_metrics import MetricsEncoder
from proxy.telemetry.otlp_spans import SpanEncoder, span_count
from proxy.words import Record

log = logging.getLogger("splitlane.telemetry")

# Dashboards look at minutes; a point in 10 s gives a rate over one of them six to stand on.
METRICS_EVERY = 10.0
# Soon enough for who waits for a trace, seldom enough that exports carry many spans.
SPANS_EVERY = 0.5
# Records of traced requests that wait: some 20 MB, and three seconds of all requests of a busy core.
QUEUED = 8192
# Records in one export: a few hundred kilobytes, where collectors take four megabytes.
BATCH = 512
# Seconds that one export may take.
TIMEOUT = 5.0
# Seconds that the process's end may wait for the last export.
FAREWELL = 1.0
# Seconds between two tries doubles from the first to the last.
FIRST_PAUSE = 1.0
LAST_PAUSE = 30.0
# "Not now", as OTLP has it (OTLP/HTTP, "Retryable Response Codes"); any other refusal is for good.
LATER = frozenset({429, 502, 503, 504})


class Signal:
    """One of the two things exported: how it gets through."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/v1/{name}"
        self.exported = 0
        self.dropped = 0
        self.overflowed = 0  # dropped by the event loop, because the queue was full
        self.headers, self._unusable = export_headers(os.environ, name)
        self._failing = False
        self._pause = 0.0
        self._not_before = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it may be tried, at monotonic time `now`."""
        return now >= self._not_before

    def reset(self) -> None:
        """The collector is another one."""
        self._failing = False
        self._pause = self._not_before = 0.0
        if self._unusable:
            log.warning(
                "%d members of OTEL_EXPORTER_OTLP_HEADERS are not NAME=VALUE and are not sent with %s",
                self._unusable, self.name,
            )  # fmt: skip

    def got_through(self, collector: str, count: int, rejected: int) -> None:
        """`count` items were taken, save those that the collector says it rejected."""
        rejected = min(max(rejected, 0), count)
        self.exported += count - rejected
        self.dropped += rejected
        if self._failing:
            log.info("%s takes %s again", collector, self.name)
        self._failing = False
        self._pause = self._not_before = 0.0

    def failed(self, collector: str, reason: str, wait: float) -> None:
        """Pause; `wait` is what the collector asks for, seconds."""
        if not self._failing:
            log.warning("%s does not take %s: %s; requests are not affected", collector, self.name, reason)
        self._failing = True
        self._pause = min(max(self._pause * 2, wait, FIRST_PAUSE), LAST_PAUSE)
        self._not_before = time.monotonic() + self._pause


class Exporter:
    """Reads counters and takes records; `take` and `follow` are the event loop's, the rest is the thread's."""

    def __init__(self, metrics: Metrics, since: int) -> None:
        """`since`: Unix nanoseconds at which the counters were zero."""
        resource = resource_of(os.environ)
        self.traces = Signal("traces")
        self.metrics = Signal("metrics")
        self._metrics_encoder = MetricsEncoder(metrics, resource, since)
        self._span_encoder = SpanEncoder(resource)
        self._records: deque[Record] = deque()
        self._batch = b""  # spans that are being sent, or are to be sent again
        self._batch_spans = 0
        self._wanted = ("", Peers({}, {}))  # the endpoint, and the upstreams; replaced as one
        self._collector: Collector | None = None
        self._endpoint = ""  # of the collector
        self._ends_at = 0.0  # monotonic time; 0: not yet
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp export", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether the thread is gone."""
        return not self._thread.is_alive()

    def take(self, records: Sequence[Record]) -> None:
        """Take records."""
        for record in records:
            self.settle(record)

    def settle(self, record: Record) -> None:
        """Take one; one without a trace is none of ours."""
        if record.trace is None:
            return
        if len(self._records) >= QUEUED:
            self.traces.overflowed += span_count(record)
        else:
            self._records.append(record)

    def follow(self, endpoint: str, peers: Peers) -> None:
        """Export to this collector from now on; an empty `endpoint`: to none."""
        self._wanted = (endpoint, peers)
        self._wake.set()
        if endpoint != self._endpoint:
            self.cut()

    def end(self) -> float:
        """Say the last words: `has_ended` tells when they are said.  How long they may take, seconds."""
        self._ends_at = time.monotonic() + FAREWELL
        self._wake.set()
        return FAREWELL

    def cut(self) -> None:
        """End what is under way."""
        if (collector := self._collector) is not None:
            collector.cut()

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        metrics_at = time.monotonic() + METRICS_EVERY
        while not self._ends_at:
            self._wake.wait(SPANS_EVERY if self._endpoint else None)
            self._wake.clear()
            endpoint, peers = self._wanted
            if endpoint != self._endpoint:
                self._change_to(endpoint)
            if self._collector is None:
                continue
            is_due = time.monotonic() >= metrics_at
            if is_due:
                metrics_at = time.monotonic() + METRICS_EVERY
            if not self._export(self._collector, peers, metrics=is_due):
                self._wake.wait(LAST_PAUSE)
        if self._collector is not None:
            self._export(self._collector, self._wanted[1], metrics=True)
        self._drop_spans()

    def _export(self, collector: Collector, peers: Peers, *, metrics: bool) -> bool:
        """Export what there is; False where that failed for a fault of ours."""
        try:
            if metrics:
                self._export_metrics(collector, peers)
            self._export_spans(collector, peers)
        except Exception:
            log.exception("an export failed inside the proxy")
            self.traces.dropped += self._batch_spans
            self._batch, self._batch_spans = b"", 0
            return False
        return True

    def _change_to(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._collector = None
        self.traces.reset()
        self.metrics.reset()
        if not endpoint:
            self._drop_spans()
            return
        try:
            self._collector = Collector(endpoint, os.environ)
        except OSError as error:
            log.warning("OTEL_EXPORTER_OTLP_CERTIFICATE cannot be used (%s): nothing is exported", error.strerror)

    def _drop_spans(self) -> None:
        self.traces.dropped += self._batch_spans
        self._batch, self._batch_spans = b"", 0
        while self._records:
            self.traces.dropped += span_count(self._records.popleft())

    def _export_spans(self, collector: Collector, peers: Peers) -> None:
        signal = self.traces
        for _ in range(QUEUED // BATCH):
            if not signal.is_due(time.monotonic()) or self._patience() <= 0:
                return
            if not self._batch:
                if not self._records:
                    return
                taken = [self._records.popleft() for _ in range(min(BATCH, len(self._records)))]
                self._batch_spans = sum(map(span_count, taken))
                self._batch = self._span_encoder.encode(taken, peers)
            answer = self._post(collector, signal, self._batch, self._batch_spans)
            if answer is None:
                return
            self._batch, self._batch_spans = b"", 0

    def _export_metrics(self, collector: Collector, peers: Peers) -> None:
        signal = self.metrics
        if signal.is_due(time.monotonic()) and self._patience() > 0:
            body, points = self._metrics_encoder.encode(peers.providers, time.time_ns())
            if self._post(collector, signal, body, points) is None:
                signal.dropped += points

    def _post(self, collector: Collector, signal: Signal, body: bytes, count: int) -> Answer | None:
        """What the collector said to it, for good; None where it is worth another try."""
        try:
            answer = collector.post(signal.path, signal.headers, body, self._patience())
        except CollectorError as error:
            if self._wanted[0] == self._endpoint:  # else it was we who ended it
                signal.failed(collector.name, str(error), 0.0)
            return None
        if 200 <= answer.status < 300:
            signal.got_through(collector.name, count, _rejected(answer.protobuf))
            return answer
        signal.failed(collector.name, f"status {answer.status}", answer.retry_after)
        if answer.status in LATER:
            return None
        signal.dropped += count
        return answer

    def _patience(self) -> float:
        """Seconds that an export may take now."""
        return min(self._ends_at - time.monotonic(), TIMEOUT) if self._ends_at else TIMEOUT


def _rejected(answer: bytes) -> int:
    """How many items the collector says it did not take; 0 where it says nothing that makes sense."""
    try:
        # The answer to metrics has the same form: field 1 in field 1.
        return ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
    except DecodeError:
        return 0

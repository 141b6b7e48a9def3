"""An OTLP collector on a real socket that decodes what it is sent, and one that does as it likes.

with collector() as otlp:
    ...  # otlp.url; otlp.spans, otlp.points("model.requests"); otlp.answer = lambda path: Reply(429)
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Reply(NamedTuple):
    """What the collector answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = PROTOBUF


class Post(NamedTuple):
    """What it was sent."""

    path: str
    headers: dict[str, str]  # by lower-case name
    body: bytes


@dataclass
class Collector:
    """What arrived, and what is answered."""

    url: str
    posts: list[Post] = field(default_factory=list)
    answer: Callable[[str], Reply] = lambda _: Reply()

    def bodies(self, path: str) -> list[bytes]:
        return [post.body for post in self.posts if post.path == path]

    @property
    def span_requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies("/v1/traces")]

    @property
    def metric_requests(self) -> list[ExportMetricsServiceRequest]:
        return [ExportMetricsServiceRequest.FromString(body) for body in self.bodies("/v1/metrics")]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.span_requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> dict[str, Metric]:
        """As exported last, by name."""
        last = self.metric_requests[-1]
        return {each.name: each for each in last.resource_metrics[0].scope_metrics[0].metrics}

    def points(self, name: str) -> list[NumberDataPoint] | list[HistogramDataPoint]:
        metric = self.metrics[name]
        return list(metric.sum.data_points) or list(metric.histogram.data_points)


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    pairs: list[KeyValue] = list(attributes)
    found = {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in pairs}
    assert len(found) == len(pairs), "an attribute twice"
    return found


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that serves until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, data, headers = found.answer(self.path)
            with suppress(OSError):  # the exporter has left
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def liar(misbehave: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a listener that treats every connection so, in a thread of its own, and then holds it."""
    held: list[socket.socket] = []
    ended = threading.Event()

    def treat(sock: socket.socket) -> None:
        with suppress(OSError):
            misbehave(sock)
        ended.wait(30)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                held.append(sock)
                threads.append(threading.Thread(target=treat, args=(sock,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for sock in held:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            for thread in threads:
                thread.join()

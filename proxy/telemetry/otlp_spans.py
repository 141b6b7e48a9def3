"""A traced request's record as spans: one SERVER, and a CLIENT for each attempt.

Made after the fact, so they cost the request nothing.  A span names what the policy names, numbers,
and ids: no user, no prompt, and no path, which may carry either.

Source: OpenTelemetry's semantic conventions for HTTP spans and for GenAI client spans.
"""

from collections.abc import Iterable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from proxy.telemetry.otlp import SCOPE, Peers, attribute, known, politely
from proxy.words import Attempt, Failure, Record, Trace

_CHAT_ROUTE = "/v1/chat/completions"
# OTLP's SpanFlags: whether it is known that the parent is of another process, and whether it is.
_PARENT_IS_KNOWN = 0x100
_PARENT_IS_REMOTE = 0x200
_NANO = 1_000_000_000
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_ERROR = Status(code=Status.STATUS_CODE_ERROR)


class SpanEncoder:
    """Makes export requests of records."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def encode(self, records: Iterable[Record], peers: Peers) -> bytes:
        """An export request of the spans of traced records."""
        spans: list[Span] = []
        for record in politely(records):
            if record.trace is not None:
                spans += _spans(record, record.trace, peers)
        scope = ScopeSpans(scope=SCOPE, spans=spans)
        request = ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=self._resource, scope_spans=[scope])]
        )
        return request.SerializeToString()


def span_count(record: Record) -> int:
    """How many spans its record makes."""
    return 1 + len(record.attempts)


def _spans(record: Record, trace: Trace, peers: Peers) -> list[Span]:
    trace_id = bytes.fromhex(trace.trace_id)
    method = trace.method if trace.method in _METHODS else "_OTHER"
    chat = record.route == "chat"
    begun = int(record.time * _NANO)
    server = Span(
        trace_id=trace_id,
        span_id=bytes.fromhex(trace.span),
        parent_span_id=bytes.fromhex(trace.parent),
        flags=trace.flags | _PARENT_IS_KNOWN | (_PARENT_IS_REMOTE if trace.parent else 0),
        name=f"{method} {_CHAT_ROUTE}" if chat else method,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=begun,
        end_time_unix_nano=begun + int(record.latency * _NANO),
        attributes=_server(record, method, chat=chat),
        status=_status(record.failure),
    )
    last = len(record.attempts) - 1
    return [
        server,
        *(
            Span(
                trace_id=trace_id,
                span_id=bytes.fromhex(attempt.span),
                parent_span_id=server.span_id,
                flags=trace.flags | _PARENT_IS_KNOWN,
                name=f"chat {attempt.model}" if chat else method,
                kind=Span.SPAN_KIND_CLIENT,
                start_time_unix_nano=begun + int(attempt.started * _NANO),
                end_time_unix_nano=begun + int((attempt.started + attempt.seconds) * _NANO),
                attributes=_client(record, attempt, method, peers, is_last=number == last),
                status=_status(attempt.failure),
            )
            for number, attempt in enumerate(record.attempts)
        ),
    ]


def _server(record: Record, method: str, *, chat: bool) -> list[KeyValue]:
    variant, assignment, bucket = record.decision
    attributes = [
        known("http.request.method", method),
        known("url.scheme", "http"),
        known("http.response.status_code", record.status),
        known("splitlane.agent", record.agent),
        known("splitlane.variant", variant.value),
        known("splitlane.assignment", assignment.value),
        known("splitlane.policy", record.policy_hash),
        attribute("splitlane.request_id", record.request_id),
    ]
    if chat:
        attributes.append(known("http.route", _CHAT_ROUTE))
    if bucket >= 0:
        attributes.append(attribute("splitlane.bucket", bucket))
    if record.served:
        attributes.append(known("splitlane.served", record.served))
    if record.fallback is not None:
        attributes.append(known("splitlane.fallback", record.fallback.value))
    if record.failure is not None:
        attributes.append(known("error.type", record.failure.value))
    return attributes


def _client(record: Record, attempt: Attempt, method: str, peers: Peers, *, is_last: bool) -> list[KeyValue]:
    attributes = [known("http.request.method", method), known("splitlane.upstream", attempt.upstream)]
    peer = peers.upstreams.get(attempt.upstream)
    if peer is not None:
        attributes += (known("server.address", peer.host), known("server.port", peer.port))
    if attempt.status:
        attributes.append(known("http.response.status_code", attempt.status))
    if attempt.failure is not None:
        attributes.append(known("error.type", attempt.failure.value))
    if not attempt.model:
        return attributes
    attributes += (known("gen_ai.operation.name", "chat"), known("gen_ai.request.model", attempt.model))
    if peer is not None:
        attributes.append(known("gen_ai.provider.name", peer.provider))
    if record.stream:
        attributes.append(known("gen_ai.request.stream", True))
    if is_last and record.response_id:
        attributes.append(attribute("gen_ai.response.id", record.response_id))
    if is_last and record.ttft >= 0:
        attributes.append(attribute("gen_ai.response.time_to_first_chunk", record.ttft - attempt.started))
    if (usage := attempt.usage) is not None:
        attributes += (
            attribute("gen_ai.usage.input_tokens", usage.prompt),
            attribute("gen_ai.usage.output_tokens", usage.completion),
        )
        if usage.cached:
            attributes.append(attribute("gen_ai.usage.cache_read.input_tokens", usage.cached))
        if usage.reasoning:
            attributes.append(attribute("gen_ai.usage.reasoning.output_tokens", usage.reasoning))
        if usage.estimated:
            attributes.append(known("splitlane.usage.estimated", True))
    if attempt.cost:
        attributes.append(attribute("splitlane.cost_usd", attempt.cost))
    return attributes


def _status(failure: Failure | None) -> Status | None:
    return None if failure is None else _ERROR

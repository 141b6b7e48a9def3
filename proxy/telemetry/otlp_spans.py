"""A traced request's record as spans: one SERVER, and a CLIENT for each attempt.

Made after the fact, so they cost the request nothing.  A span names what the policy names, numbers,
and ids: no user, no prompt, and no path, which may carry either.

Source: OpenTelemetry's semantic conventions for HTTP spans and for GenAI client spans.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from proxy.telemetry.otlp import SCOPE, Peer, Peers, attribute, politely
from proxy.words import Assignment, Attempt, Failure, Record, Trace, Variant

_CHAT_ROUTE = "/v1/chat/completions"
# OTLP's SpanFlags: whether it is known that the parent is of another process, and whether it is.
_PARENT_IS_KNOWN = 0x100
_PARENT_IS_REMOTE = 0x200
_NANO = 1_000_000_000
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


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
    trace_id, server_id = bytes.fromhex(trace.trace_id), bytes.fromhex(trace.span)
    method = trace.method if trace.method in _METHODS else "_OTHER"
    route = _CHAT_ROUTE if record.route == "chat" else ""
    begun = int(record.time * _NANO)
    server = Span(
        trace_id=trace_id,
        span_id=server_id,
        parent_span_id=bytes.fromhex(trace.parent),
        flags=trace.flags | _PARENT_IS_KNOWN | (_PARENT_IS_REMOTE if trace.parent else 0),
        start_time_unix_nano=begun,
        end_time_unix_nano=begun + int(record.latency * _NANO),
    )
    decision = record.decision
    server.MergeFromString(
        _server(method, route, record.status, record.agent, decision.variant, decision.assignment, record.policy_hash,
                record.served, record.fallback, record.failure)
    )  # fmt: skip
    add = server.attributes.add
    add(key="splitlane.request_id").value.string_value = record.request_id
    if decision.bucket >= 0:
        add(key="splitlane.bucket").value.int_value = decision.bucket
    spans = [server]
    last = len(record.attempts) - 1
    for number, attempt in enumerate(record.attempts):
        client = Span(
            trace_id=trace_id,
            span_id=bytes.fromhex(attempt.span),
            parent_span_id=server_id,
            flags=trace.flags | _PARENT_IS_KNOWN,
            start_time_unix_nano=begun + int(attempt.started * _NANO),
            end_time_unix_nano=begun + int((attempt.started + attempt.seconds) * _NANO),
        )
        peer = peers.upstreams.get(attempt.upstream)
        client.MergeFromString(
            _client(method, attempt.upstream, peer, attempt.model, attempt.status, attempt.failure, record.stream)
        )
        if attempt.model:
            _describe_answer(client, record, attempt, is_last=number == last)
        spans.append(client)
    return spans


# What many spans have in common is encoded once for each combination of the policy's names and of words:
# half of what a span costs.


@lru_cache(1024)
def _server(
    method: str,
    route: str,
    status: int,
    agent: str,
    variant: Variant,
    assignment: Assignment,
    policy: str,
    served: str,
    fallback: Failure | None,
    failure: Failure | None,
) -> bytes:
    attributes: dict[str, str | int | None] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": "http",
        "splitlane.agent": agent,
        "splitlane.variant": variant,
        "splitlane.assignment": assignment,
        "splitlane.policy": policy,
        "splitlane.served": served,
        "splitlane.fallback": fallback,
        "error.type": failure,
    }
    name = f"{method} {route}" if route else method
    return _part(name, Span.SPAN_KIND_SERVER, attributes, failure)


@lru_cache(1024)
def _client(
    method: str, upstream: str, peer: Peer | None, model: str, status: int, failure: Failure | None, stream: bool
) -> bytes:
    attributes: dict[str, str | int | None] = {
        "http.request.method": method,
        "http.response.status_code": status,
        "error.type": failure,
        "splitlane.upstream": upstream,
    }
    if peer is not None:
        attributes |= {"server.address": peer.host, "server.port": peer.port}
    if model:
        attributes |= {"gen_ai.operation.name": "chat", "gen_ai.request.model": model, "gen_ai.request.stream": stream}
        if peer is not None:
            attributes["gen_ai.provider.name"] = peer.provider
    return _part(f"chat {model}" if model else method, Span.SPAN_KIND_CLIENT, attributes, failure)


def _part(
    name: str, kind: Span.SpanKind.ValueType, attributes: Mapping[str, str | int | None], failure: Failure | None
) -> bytes:
    """A span without ids and times; attributes that are empty, None, 0 or False are left out."""
    return Span(
        name=name,
        kind=kind,
        attributes=[attribute(key, value) for key, value in attributes.items() if value],
        status=None if failure is None else Status(code=Status.STATUS_CODE_ERROR),
    ).SerializeToString()


def _describe_answer(span: Span, record: Record, attempt: Attempt, *, is_last: bool) -> None:
    add = span.attributes.add
    if is_last and record.response_id:
        add(key="gen_ai.response.id").value.string_value = record.response_id
    if is_last and record.ttft >= 0:
        add(key="gen_ai.response.time_to_first_chunk").value.double_value = record.ttft - attempt.started
    if (usage := attempt.usage) is not None:
        add(key="gen_ai.usage.input_tokens").value.int_value = usage.prompt
        add(key="gen_ai.usage.output_tokens").value.int_value = usage.completion
        if usage.cached:
            add(key="gen_ai.usage.cache_read.input_tokens").value.int_value = usage.cached
        if usage.reasoning:
            add(key="gen_ai.usage.reasoning.output_tokens").value.int_value = usage.reasoning
        if usage.estimated:
            add(key="splitlane.usage.estimated").value.bool_value = True
    if attempt.cost:
        add(key="splitlane.cost_usd").value.double_value = attempt.cost

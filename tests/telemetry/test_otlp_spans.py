"""A record as spans: who is whose parent, when, and with which attributes."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy.telemetry.otlp import Peer, Peers, resource_of
from proxy.telemetry.otlp_spans import SpanEncoder, span_count
from proxy.words import Assignment, Attempt, Decision, Failure, Record, Trace, Usage, Variant
from tests.support.collector import plain
from tests.support.records import SOUND as SUCCESS
from tests.telemetry.test_metrics import BASELINE, FINETUNED

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "1111111111111111", 1, "POST")
FAILED = Attempt("up", FINETUNED, 429, Failure.RATE_LIMITED, 0.25, 0.25, None, 0.0, "2222222222222222")
SERVED = Attempt("far", BASELINE, 200, None, 0.5, 0.625, Usage(19, 10, 8, 4), 0.002, "3333333333333333")
RESCUED = replace(
    SUCCESS,
    trace=TRACE,
    attempts=(FAILED, SERVED),
    served=BASELINE,
    fallback=Failure.RATE_LIMITED,
    ttft=0.75,
    stream=True,
)
PEERS = Peers({"up": Peer("ft.example", 443, "mistral_ai"), "far": Peer("::1", 8000, "openai")}, {})


def spans_of(*records: Record) -> list[Span]:
    body = SpanEncoder(resource_of({})).encode(records, PEERS)
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert plain(resource.resource.attributes)["service.name"] == "splitlane"
    (scope,) = resource.scope_spans
    assert scope.scope.name == "splitlane"
    assert len(scope.spans) == sum(map(span_count, records))
    return list(scope.spans)


def test_attempts_are_children_of_the_request_and_that_of_its_caller() -> None:
    server, first, second = spans_of(RESCUED)
    assert {span.trace_id.hex() for span in (server, first, second)} == {TRACE.trace_id}
    assert (server.span_id.hex(), server.parent_span_id.hex()) == (TRACE.span, TRACE.parent)
    assert [span.span_id.hex() for span in (first, second)] == [FAILED.span, SERVED.span]
    assert {span.parent_span_id for span in (first, second)} == {server.span_id}
    assert [span.kind for span in (server, first, second)] == [
        Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_CLIENT,
    ]  # fmt: skip
    assert [span.flags for span in (server, first)] == [0x301, 0x101]


def test_request_without_a_caller_is_a_root() -> None:
    server, *_ = spans_of(replace(RESCUED, trace=TRACE._replace(parent="")))
    assert server.parent_span_id == b""
    assert server.flags == 0x101


def test_times_are_the_records() -> None:
    server, first, second = spans_of(RESCUED)
    start = 1_700_000_000_000_000_000
    assert (server.start_time_unix_nano, server.end_time_unix_nano - start) == (start, 1_200_000_000)
    assert (first.start_time_unix_nano - start, first.end_time_unix_nano - start) == (250_000_000, 500_000_000)
    assert (second.start_time_unix_nano - start, second.end_time_unix_nano - start) == (500_000_000, 1_125_000_000)


def test_server_span_has_the_conventions_attributes_and_ours() -> None:
    server, *_ = spans_of(RESCUED)
    assert server.name == "POST /v1/chat/completions"
    assert server.status == Status()
    assert plain(server.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "splitlane.agent": "qa_agent",
        "splitlane.variant": "finetuned",
        "splitlane.assignment": "finetuned",
        "splitlane.bucket": 5,
        "splitlane.policy": "0123456789ab",
        "splitlane.request_id": SUCCESS.request_id,
        "splitlane.served": BASELINE,
        "splitlane.fallback": "rate_limited",
    }


def test_attempt_that_failed_is_an_error_with_our_word_for_it() -> None:
    _, first, _ = spans_of(RESCUED)
    assert first.name == f"chat {FINETUNED}"
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert plain(first.attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": 429,
        "server.address": "ft.example",
        "server.port": 443,
        "error.type": "rate_limited",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": FINETUNED,
        "gen_ai.request.stream": True,
        "splitlane.upstream": "up",
    }


def test_attempt_that_served_has_the_conventions_usage() -> None:
    *_, second = spans_of(RESCUED)
    assert second.status == Status()
    found = plain(second.attributes)
    assert found["gen_ai.response.id"] == "chatcmpl-1"
    assert found["gen_ai.response.time_to_first_chunk"] == 0.25
    assert {name: value for name, value in found.items() if name.startswith("gen_ai.usage.")} == {
        "gen_ai.usage.input_tokens": 19,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 4,
    }
    assert found["splitlane.cost_usd"] == 0.002


def test_request_that_failed_is_an_error() -> None:
    (server,) = spans_of(replace(RESCUED, failure=Failure.OVERLOAD, status=503, attempts=(), served=""))
    assert server.status.code == Status.STATUS_CODE_ERROR
    assert plain(server.attributes)["error.type"] == "overload"


def test_passed_through_request_has_no_route_and_no_model() -> None:
    attempt = replace(SERVED, model="", usage=None, cost=0.0)
    unassigned = Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1)
    record = replace(
        SUCCESS, route="passthrough", trace=TRACE._replace(method="PROPFIND"), attempts=(attempt,), decision=unassigned
    )
    server, client = spans_of(record)
    assert (server.name, client.name) == ("_OTHER", "_OTHER")
    assert not {"http.route", "splitlane.bucket"} & plain(server.attributes).keys()
    assert not [name for name in plain(client.attributes) if name.startswith("gen_ai.")]


def test_upstream_that_left_the_policy_has_no_address() -> None:
    _, client = spans_of(replace(RESCUED, attempts=(replace(SERVED, upstream="gone"),)))
    assert not {"server.address", "gen_ai.provider.name"} & plain(client.attributes).keys()


@given(st.lists(st.sampled_from([RESCUED, replace(SUCCESS, trace=TRACE)]), max_size=20))
def test_any_number_of_records_is_exported_in_order(records: list[Any]) -> None:
    names = [span.name for span in spans_of(*records)]
    assert names.count("POST /v1/chat/completions") == len(records)

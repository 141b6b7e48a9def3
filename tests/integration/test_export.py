"""Metrics and traces at a collector, `traceparent` at the upstream, and collectors that misbehave.  ACCEPTANCE 39."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy.policy.snapshot import Policy
from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from proxy.telemetry import exporter
from proxy.telemetry.exporter import FAREWELL
from tests.integration.asking import ask, chat, chat_body
from tests.integration.test_metrics import scrape, total
from tests.support.collector import Collector, Reply, collector, liar, plain
from tests.support.deaf import deaf_listener
from tests.support.lane import BASELINE_USER, FINETUNED, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.served import log_lines, serving, write_policy

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
UNSOUND = [SAMPLED.upper(), "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"]


def exporting(stub: Stub, url: str, traces: str = "100%", **sections: Any) -> Policy:
    return policy_of(stub.url, observability={"export_endpoint": url, "traces": traces}, **sections)


def caller(value: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("traceparent", value), *more]


def by_kind(otlp: Collector) -> tuple[list[Span], list[Span]]:
    spans = otlp.spans
    return (
        [span for span in spans if span.kind == Span.SPAN_KIND_SERVER],
        [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT],
    )


def parts(value: str | None) -> list[str]:
    assert value is not None
    return value.split("-")


# --- traceparent ------------------------------------------------------------------------------------


async def test_callers_trace_goes_on_through_the_attempts_span_to_the_upstream() -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url, traces="0%")) as lane:
                await ask(lane, chat(headers=caller(SAMPLED, ("tracestate", "vendor=1"), ("tracestate", "b=2"))))
            (server,), (client,) = by_kind(otlp)
        (call,) = stub.calls
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, SPAN)
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    assert call.all_headers("traceparent") == [f"00-{TRACE}-{client.span_id.hex()}-01"]
    assert call.all_headers("tracestate") == ["vendor=1", "b=2"]


async def test_each_attempt_has_a_span_of_its_own_that_its_upstream_was_told() -> None:
    faults = [("x-stub-fault", "status=429,retry_after=0")]
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                await ask(lane, chat(headers=faults))
            (server,), clients = by_kind(otlp)
        calls = list(stub.calls)
    assert len(calls) == len(clients) == 3  # the fine-tune, and the baseline twice
    assert [parts(call.header("traceparent"))[2] for call in calls] == [span.span_id.hex() for span in clients]
    assert len({span.span_id for span in clients}) == 3
    assert {parts(call.header("traceparent"))[1] for call in calls} == {server.trace_id.hex()}
    assert [plain(span.attributes)["error.type"] for span in clients] == ["rate_limited"] * 3
    assert {span.status.code for span in (server, *clients)} == {Status.STATUS_CODE_ERROR}
    assert plain(server.attributes)["splitlane.fallback"] == "rate_limited"
    assert plain(clients[0].attributes)["server.port"] == stub.port


async def test_caller_that_does_not_sample_is_passed_on_untouched() -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                await ask(lane, chat(headers=[("TraceParent", UNSAMPLED), ("X-Next", "1"), ("tracestate", "a=b")]))
            assert not otlp.bodies("/v1/traces")
        names = [name for name, _ in stub.calls[0].headers]
    assert names[1:4] == [b"TraceParent", b"X-Next", b"tracestate"]
    assert stub.calls[0].header("traceparent") == UNSAMPLED


@pytest.mark.parametrize("value", [SAMPLED, *UNSOUND])
async def test_without_tracing_the_field_is_passed_on_byte_for_byte(value: str) -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        await ask(lane, chat(headers=[("TRACEPARENT", value), ("tracestate", "a=b"), ("traceparent", "second")]))
    (call,) = stub.calls
    assert call.all_headers("traceparent") == [value, "second"]
    assert call.all_headers("tracestate") == ["a=b"]
    assert call.headers[1][0] == b"TRACEPARENT"


@pytest.mark.parametrize("value", UNSOUND)
async def test_unsound_caller_is_not_trusted_and_begins_a_new_trace(value: str) -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                assert (await ask(lane, chat(headers=caller(value, ("tracestate", "a=b"))))).status == 200
            (server,), (client,) = by_kind(otlp)
        (call,) = stub.calls
    assert server.parent_span_id == b""
    assert call.all_headers("traceparent") == [f"00-{server.trace_id.hex()}-{client.span_id.hex()}-01"]
    assert server.trace_id.hex() != TRACE
    assert call.header("tracestate") is None


@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/v1/models", headers=caller(SAMPLED)),
        request("POST", "/v1/embeddings", b'{"model":"m","input":"x"}', caller(SAMPLED)),
        request("POST", "/v1/files", b"x" * 1_000_000, caller(SAMPLED)),  # streamed
    ],
)
async def test_passed_through_request_is_traced_too(data: bytes) -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                await ask(lane, data)
            (server,), (client,) = by_kind(otlp)
        (call,) = stub.calls
    assert call.all_headers("traceparent") == [f"00-{TRACE}-{client.span_id.hex()}-01"]
    assert client.parent_span_id == server.span_id
    assert call.body == data.partition(b"\r\n\r\n")[2]


async def test_client_that_leaves_ends_both_spans_as_errors() -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                async with RawClient(lane.host, lane.port) as client:
                    await client.send(chat(headers=[("x-stub-fault", "slow=0.1")]))
                    await eventually(lambda: bool(stub.calls))
                await lane.idle()
            (server,), (attempt,) = by_kind(otlp)
    for span in (server, attempt):
        assert plain(span.attributes)["error.type"] == "client_gone"
        assert span.status.code == Status.STATUS_CODE_ERROR
    assert plain(server.attributes)["http.response.status_code"] == 499


async def test_spans_lie_within_one_another_and_within_the_test() -> None:
    before = time.time_ns()
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                await ask(lane, chat(chat_body(stream=True), headers=[("x-stub-fault", "model=ft:*,status=500")]))
            (server,), (first, second) = by_kind(otlp)
    starts = [span.start_time_unix_nano for span in (server, first, second)]
    ends = [span.end_time_unix_nano for span in (first, second, server)]
    edges = [before, starts[0], starts[1], ends[0], starts[2], ends[1], ends[2], time.time_ns()]
    assert edges == sorted(edges)
    assert plain(second.attributes)["gen_ai.response.time_to_first_chunk"] > 0


async def test_share_of_requests_without_a_caller_is_traced() -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url, traces="25%")) as lane:
                for _ in range(200):
                    await ask(lane, chat())
            servers, _ = by_kind(otlp)
        told = [call for call in stub.calls if call.header("traceparent")]
    assert 20 < len(servers) < 85  # five standard deviations
    assert len(told) == len(servers)


# --- metrics and the policy -------------------------------------------------------------------------


async def test_counters_arrive_and_export_is_counted_on_metrics() -> None:
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                await ask(lane, chat())
                await ask(lane, chat(user=BASELINE_USER))
                await lane.record(2)
                async with asyncio.timeout(5):
                    while total(samples := await scrape(lane), "splitlane_otel_exported_total", signal="traces") < 4:
                        await asyncio.sleep(0.02)
                assert total(samples, "splitlane_otel_dropped_total") == 0
            points = otlp.points("model.requests")
            latency = otlp.points("model.latency_ms")
            version = {post.headers["content-type"] for post in otlp.posts}
    assert version == {"application/x-protobuf"}
    counts = {plain(point.attributes)["model"]: point.as_int for point in points}  # type: ignore[union-attr]
    assert counts[FINETUNED] == 1
    assert sum(counts.values()) == 2
    assert all(plain(point.attributes)["gen_ai.provider.name"] == "openai" for point in latency)


async def test_disabled_observability_exports_nothing() -> None:
    async with Stub() as stub:
        with collector() as otlp:
            policy = policy_of(stub.url, observability={"enabled": False, "export_endpoint": otlp.url})
            async with running(policy) as lane:
                await ask(lane, chat(headers=caller(SAMPLED)))
            assert not otlp.posts


async def test_reload_changes_endpoint_and_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "SPANS_EVERY", 0.02)
    async with Stub() as stub:
        with collector() as first, collector() as second:

            def write(**settings: Any) -> Path:
                return write_policy(tmp_path, stub.url, observability=settings)

            async with running(PolicyStore(write(), {})) as lane:
                store = lane.service.store
                await ask(lane, chat(headers=caller(SAMPLED)))
                assert stub.calls[-1].header("traceparent") == SAMPLED
                for otlp in (first, second):
                    write(export_endpoint=otlp.url, traces="100%")
                    await store.reload()
                    await ask(lane, chat())
                    await eventually(lambda otlp=otlp: len(otlp.spans) == 2)  # type: ignore[misc]
                write(export_endpoint=second.url, traces="0%")
                await store.reload()
                await ask(lane, chat())
                assert stub.calls[-1].header("traceparent") is None
                write()
                await store.reload()
                await ask(lane, chat(headers=caller(SAMPLED)))
                assert stub.calls[-1].header("traceparent") == SAMPLED
            assert len(first.spans) == len(second.spans) == 2


async def test_without_the_extra_the_proxy_serves_and_says_once_what_is_missing(tmp_path: Path) -> None:
    package = tmp_path / "without" / "opentelemetry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError(__name__)")
    async with Stub() as stub:
        path = write_policy(tmp_path, stub.url, observability={"export_endpoint": "http://127.0.0.1:1"})
        async with serving(path, {"PYTHONPATH": str(package.parent)}) as proxy:
            async with proxy.client() as client:
                await client.send(chat(headers=caller(SAMPLED)))
                assert (await client.read_response()).status == 200
            proxy.terminate()
            assert await proxy.exit_code() == 0
        assert stub.calls[0].header("traceparent") == SAMPLED
    warnings = [line["message"] for line in log_lines(proxy.log) if line["logger"] == "splitlane.telemetry"]
    assert warnings == ["observability.export_endpoint is set, but nothing is exported: pip install 'splitlane[otel]'"]


async def test_no_user_prompt_answer_or_path_is_in_any_exported_byte() -> None:
    canary = "canary4711"
    body = chat_body(messages=[{"role": "user", "content": canary}], user=canary, metadata={"agent": canary})
    fields = caller(SAMPLED, ("tracestate", f"{canary}={canary}"), ("baggage", f"user={canary}"), ("x-canary", canary))
    async with Stub() as stub:
        with collector() as otlp:
            async with running(exporting(stub, otlp.url)) as lane:
                for agent in ("qa_agent", canary):
                    await ask(lane, chat(body, agent=agent, user=canary, headers=fields))
                await ask(lane, chat(body, agent="qa_agent", user=canary, headers=[*fields, ("x-stub-fault", "reset")]))
                await ask(lane, request("GET", f"/v1/files/{canary}?user={canary}", headers=fields))
                await ask(lane, chat(body[:-1], user=canary, headers=fields))
            servers, _ = by_kind(otlp)
            assert len(servers) == 5
            sent = b"".join(post.body + repr(post.headers).encode() for post in otlp.posts)
    assert b"canary" not in sent
    assert b"qa_agent" in sent


# --- collectors that misbehave ----------------------------------------------------------------------


def hang(sock: socket.socket) -> None:
    sock.recv(1)


def never_read(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def drip(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X")
        time.sleep(0.05)


async def p99(lane: Lane, count: int = 300) -> float:
    times = []
    async with RawClient(lane.host, lane.port) as client:
        for _ in range(count):
            started = time.perf_counter()
            await client.send(chat())
            assert (await client.read_response()).status == 200
            times.append(time.perf_counter() - started)
    return sorted(times)[int(count * 0.99)]


async def served_and_stopped(stub: Stub, url: str) -> None:
    """Requests are as fast as without a collector, what is lost is counted, and the end comes in time."""
    async with running(policy_of(stub.url)) as lane:
        usual = await p99(lane)
    async with running(exporting(stub, url)) as lane:
        assert await p99(lane) < max(5 * usual, 0.05)  # a wait for the collector would take seconds
        started = time.monotonic()
    assert time.monotonic() - started < FAREWELL + 0.5


@pytest.mark.parametrize("misbehave", [hang, never_read, drip])
async def test_collector_that_hangs_slows_no_request_and_no_shutdown(
    misbehave: Callable[[socket.socket], None],
) -> None:
    async with Stub() as stub:
        with liar(misbehave) as url:
            await served_and_stopped(stub, url)


async def test_collector_that_never_accepts_slows_no_request_and_no_shutdown() -> None:
    async with Stub() as stub:
        with deaf_listener() as port:
            await served_and_stopped(stub, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("status", [200, 307, 429, 500, 503])
async def test_collector_that_lies_or_refuses_slows_no_request_and_no_shutdown(status: int) -> None:
    async with Stub() as stub:
        with collector() as otlp:
            otlp.answer = lambda _: Reply(status, b"\xff" * 200_000)
            await served_and_stopped(stub, otlp.url)
            assert otlp.posts


async def test_what_a_hanging_collector_does_not_take_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "QUEUED", 50)
    async with Stub() as stub:
        with liar(hang) as url:
            async with running(exporting(stub, url)) as lane:
                await p99(lane, 700)
                await lane.record(700)
                dropped = total(await scrape(lane), "splitlane_otel_dropped_total", signal="traces")
                assert total(await scrape(lane), "splitlane_otel_exported_total") == 0
    assert 2 * (700 - 50 - exporter.BATCH) <= dropped <= 2 * 700


async def test_process_ends_in_time_though_its_collector_hangs(tmp_path: Path) -> None:
    async with Stub() as stub:
        with liar(hang) as url:
            path = write_policy(tmp_path, stub.url, observability={"export_endpoint": url, "traces": "100%"})
            async with serving(path) as proxy:
                async with proxy.client() as client:
                    await client.send(chat())
                    await client.read_response()
                started = time.monotonic()
                proxy.terminate()
                assert await proxy.exit_code() == 0
                assert time.monotonic() - started < 0.5 + FAREWELL + 0.7  # drain's grace, ours, and Python's own

"""ACCEPTANCE 30: bodies too large, and clients too slow: each is answered or closed, others are served."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from proxy.stub import Stub, StubConfig
from tests.integration.asking import ANSWER, CHAT, ask, chat, chat_body, error_of
from tests.support.lane import Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import RawUpstream, Read, Send, Stall, head, response
from tests.support.served import serving, write_policy

HEAD = b"POST %b HTTP/1.1\r\nHost: a\r\nx-agent: qa_agent\r\n"
SMALL = {"limits": {"max_body": "100KiB"}}


async def well(lane: Lane) -> None:
    """Others are served meanwhile, soon."""
    async with asyncio.timeout(2):
        assert (await ask(lane, chat())).status == 200


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_announced_body_over_the_limit_is_refused_before_it_is_read(expect: bytes) -> None:
    """ACCEPTANCE 30: not a byte of it was sent."""
    async with Stub() as stub, running(policy_of(stub.url, **SMALL)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(HEAD % CHAT.encode() + expect + b"Content-Length: 102401\r\n\r\n")
            first = await client.read_head()  # of whatever comes first: no 100 (Continue)
            assert first.status == 413
            assert first.get(b"connection") == b"close"
            assert await client.wait_closed() == "fin"
        assert (await lane.record()).status == 413
        await well(lane)
        assert len(stub.calls) == 1


async def test_largest_body_allowed_is_served_and_one_byte_more_is_not() -> None:
    """ACCEPTANCE 30."""
    async with Stub() as stub, running(policy_of(stub.url, **SMALL)) as lane:
        body = chat_body()
        full = body + b" " * (100 * 1024 - len(body))
        assert (await ask(lane, chat(full))).status == 200
        refused = await ask(lane, chat(full + b" "))
        assert refused.status == 413
        assert error_of(refused)["code"] == "body_too_large"
        assert refused.head.get(b"x-should-retry") == b"false"


@pytest.mark.parametrize("target", [CHAT, f"/agents/qa_agent{CHAT}"])
async def test_chunked_body_is_refused_as_soon_as_it_passes_the_limit(target: str) -> None:
    """ACCEPTANCE 30: it never ends, and is not waited for."""
    async with Stub() as stub, running(policy_of(stub.url, **SMALL)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(HEAD % target.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(10):
                await client.send(b"2800\r\n" + b" " * 0x2800 + b"\r\n")  # 10 KiB
            assert await client.read_until_idle(0.05) == b""
            await client.send(b"1\r\n \r\n")
            answer = await client.read_response()
        assert answer.status == 413
        assert error_of(answer)["code"] == "body_too_large"
        await lane.idle()
        assert stub.calls == []


async def test_expected_body_within_the_limit_is_asked_for() -> None:
    """ACCEPTANCE 6."""
    async with (
        Stub() as stub,
        running(policy_of(stub.url, **SMALL)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        body = chat_body()
        fields = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        await client.send(HEAD % CHAT.encode() + fields)
        assert (await client.read_head()).status == 100
        await client.send(body)
        assert (await client.read_response()).status == 200


@pytest.mark.parametrize("target", ["/v1/embeddings", "/v1/files"])
async def test_pass_through_body_over_the_limit_is_streamed(target: str) -> None:
    """DESIGN §3.3: only what is held counts."""
    body = b"x" * 300_000
    async with (
        RawUpstream([Read(), Send(response(b"{}"))]) as up,
        running(policy_of(up.url, **SMALL)) as lane,
    ):
        assert (await ask(lane, request("POST", target, body))).status == 200
    assert up.requests[0].partition(b"\r\n\r\n")[2] == body


REFUSED = {
    "announced too large": (HEAD % CHAT.encode() + b"Content-Length: 4000000\r\n\r\n", 413),
    "malformed head": (HEAD % b"/v1/embeddings" + b"X-A\x00: b\r\nContent-Length: 4000000\r\n\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n", 400),
    "refused method": (b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n", 405),
    "target": (b"POST ftp://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n", 400),
    "two hosts": (HEAD % b"/" + b"Host: b\r\nContent-Length: 4000000\r\n\r\n", 400),
    "compressed": (HEAD % CHAT.encode() + b"Content-Encoding: gzip\r\nContent-Length: 4000000\r\n\r\n", 415),
    "answered early by the upstream": (HEAD % b"/v1/files" + b"Content-Length: 4000000\r\n\r\n", 403),
}


@pytest.mark.parametrize(("start", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_refused_request_whose_body_still_arrives_gets_the_answer(start: bytes, status: int) -> None:
    """ACCEPTANCE 30: a client that sends all before it reads finds the answer, not a reset."""
    early = response(b'{"error":null}', 403)
    async with (
        RawUpstream([Read(body=False), Send(early), Stall()]) as up,
        running(policy_of(up.url, **SMALL)) as lane,
    ):
        async with RawClient(lane.host, lane.port) as client:
            await client.send(start)
            await client.send(b"x" * 4_000_000, size=100_000, pause=0.005)
            answer = await client.read_response()
            assert answer.status == status
            assert answer.clean_end
            assert await client.wait_closed() == "fin"
        await lane.idle()


async def test_refused_chunked_body_that_still_arrives_gets_the_answer() -> None:
    """ACCEPTANCE 30."""
    piece = b"19000\r\n" + b" " * 0x19000 + b"\r\n"
    async with (
        Stub() as stub,
        running(policy_of(stub.url, **SMALL)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(HEAD % CHAT.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.send(piece * 40 + b"0\r\n\r\n", size=len(piece), pause=0.005)
        answer = await client.read_response()
        assert (answer.status, answer.clean_end) == (413, True)


@pytest.mark.parametrize("size", [0, 10_000], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    "head", [b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: %b\r\n\r\n"]
)
async def test_head_without_measure_is_refused_however_it_arrives(head: bytes, size: int) -> None:
    """ACCEPTANCE 30: 128 KiB are twice what anybody else takes."""
    async with RawUpstream([Read(), Send(response(b"{}"))]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(head % (b"a" * 128 * 1024), size=size, pause=0.001)
            assert (await client.read_response()).status in (400, 414, 431)
        await lane.idle()
    assert up.requests == []


FAST = {"limits": {"request_headers": "300ms", "request_body": "300ms", "write_stall": "300ms"}}

SLOW = {
    "half a head": (b"GET /v1/models HTT", 408),
    "head without its end": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\n", 408),
    "no body": (HEAD % CHAT.encode() + b"Content-Length: 9\r\n\r\n", 408),
    "half a body": (HEAD % CHAT.encode() + b"Content-Length: 9\r\n\r\n{", 408),
    "half a chunked body": (HEAD % CHAT.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{", 408),
    "half a body, passed through": (HEAD % b"/v1/files" + b"Content-Length: 9\r\n\r\n{", 408),
}


async def _closed(client: RawClient, status: int, started: float) -> RawResponse:
    answer = await client.read_response()
    assert answer.status == status
    assert error_of(answer)["code"] == "request_timeout"
    assert answer.head.get(b"connection") == b"close"
    await client.wait_closed()
    assert 0.2 < time.monotonic() - started < 4.0
    return answer


@pytest.mark.parametrize(("start", "status"), SLOW.values(), ids=SLOW.keys())
@pytest.mark.parametrize("used", [False, True], ids=["first request", "second request"])
async def test_request_that_does_not_go_on_is_answered_408_while_others_are_served(
    start: bytes, status: int, used: bool
) -> None:
    """ACCEPTANCE 30."""
    async with Stub() as stub, running(policy_of(stub.url, **FAST)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            if used:
                await client.send(chat())
                assert (await client.read_response()).status == 200
            begun = time.monotonic()
            await client.send(start)
            await well(lane)
            await _closed(client, status, begun)
        await lane.idle()
        assert all(call.path == CHAT for call in stub.calls)


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"x"),
        (HEAD % CHAT.encode() + b"Content-Length: 9999\r\n\r\n", b"x"),
        (HEAD % CHAT.encode() + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["head", "body", "chunks"],
)
async def test_request_that_drips_is_closed_by_the_same_deadline(start: bytes, drip: bytes) -> None:
    """ACCEPTANCE 30: the deadline is for the whole, not from byte to byte."""
    async with (
        Stub() as stub,
        running(policy_of(stub.url, **FAST)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        begun = time.monotonic()

        async def go_on() -> None:
            with contextlib.suppress(ConnectionError):
                await client.send(start)
                while True:
                    await asyncio.sleep(0.02)
                    await client.send(drip)

        dripping = asyncio.create_task(go_on())
        await well(lane)
        answer = await client.read_response()
        assert answer.status == 408
        assert 0.2 < time.monotonic() - begun < 4.0
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_head_that_begins_while_another_request_is_served_has_a_deadline_too() -> None:
    """ACCEPTANCE 30: its first bytes came early, and then no more."""
    async with (
        Stub(StubConfig(latency=0.1)) as stub,
        running(policy_of(stub.url, **FAST)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat())
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        await client.send(b"GET /v1/models HTT")
        assert (await client.read_response()).status == 200
        await _closed(client, 408, begun)


async def test_head_that_comes_with_its_connection_has_a_deadline_too(tmp_path: Path) -> None:
    """ACCEPTANCE 30: the first bytes are there before the proxy has looked at the connection."""
    async with Stub() as stub, serving(write_policy(tmp_path, stub.url, **FAST)) as proxy:

        async def once() -> int:
            async with proxy.client() as client:
                await client.send(b"GET /v1/models HTT")
                return (await client.read_response()).status

        async with asyncio.timeout(5):
            assert await asyncio.gather(*(once() for _ in range(20))) == [408] * 20


async def test_pass_through_body_that_makes_progress_outlives_the_deadline() -> None:
    """A streamed upload may take as long as it needs: the deadline is from piece to piece."""
    async with (
        RawUpstream([Read(), Send(response(b"{}"))]) as up,
        running(policy_of(up.url, **FAST)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(HEAD % b"/v1/files" + b"Content-Length: 12\r\n\r\n")
        await client.send(b"x" * 12, size=1, pause=0.06)
        assert (await client.read_response()).status == 200
    assert up.requests[0].endswith(b"\r\n\r\n" + b"x" * 12)


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_reader_that_stops_is_dropped_by_the_write_stall(target: str) -> None:
    """ACCEPTANCE 30: the upstream's connection goes with it, and others are served meanwhile."""
    opening = head(200, [("content-type", "application/json"), ("content-length", "60000000")])
    endless = opening + b'{"choices":[{"message":{"content":"' + b"x" * 59_999_000

    async with (
        RawUpstream(lambda number: [Read(), Send(endless), Stall()] if number == 1 else [Read(), Send(ANSWER)]) as up,
        running(policy_of(up.url, **FAST)) as lane,
        RawClient(lane.host, lane.port, receive_buffer=4096) as client,
    ):
        await client.send(chat(target=target))
        await eventually(lambda: lane.service.exchange.in_flight == 1)
        await well(lane)
        await eventually(lambda: lane.service.connections == 0, within=5)
        await lane.idle()
        await lane.record(2)
        stalled = lane.records[-1]
        assert (stalled.status, stalled.failure) == (499, "client_gone")
        await eventually(lambda: up.connections[0].closed_at is not None)


async def test_pipelined_answers_that_nobody_reads_are_not_collected() -> None:
    """ACCEPTANCE 30: a client that sends requests and never reads is a reader that stopped."""
    large = response(b"x" * 900_000)
    async with (
        RawUpstream([Read(), Send(large)]) as up,
        running(policy_of(up.url, **FAST)) as lane,
        RawClient(lane.host, lane.port, receive_buffer=4096) as client,
    ):
        for _ in range(60):
            await client.send(request("GET", "/v1/files/1"))
        await eventually(lambda: lane.service.connections == 0, within=5)
        assert len(up.requests) < 30

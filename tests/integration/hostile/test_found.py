"""What the generated messages have found, each by name; and connections that end without a request."""

import asyncio
import gc
import logging

import pytest

from proxy.listener.request import ClientRequest
from tests.integration.asking import ANSWER
from tests.support.lane import eventually, policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import Action, Pause, RawUpstream, Read, Send

KEPT = b"Host: a\r\nConnection: keep-alive\r\n\r\n"


LAST_GET = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def all_of(data: bytes, *answering: Action) -> tuple[list[bytes], bytes]:
    """What the upstream and the client have got, once the proxy has closed."""
    async with RawUpstream([Read(), *(answering or [Send(ANSWER)])]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(data)
            got = b""
            while more := await client.read():
                got += more
        await lane.idle()
        return up.requests, got


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b"", b"HTTP/1.1"])
async def test_other_version_is_refused_though_it_keeps_its_connection_alive(version: bytes) -> None:
    sent, got = await all_of(b"GET /x%b\r\n" % version + KEPT)
    assert sent == []
    assert got.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://b", b"/"),
        (b"http://b?a=/c", b"/?a=/c"),
        (b"HTTPS://b:1?", b"/?"),
        (b"http://b/c?d=http://e/f", b"/c?d=http://e/f"),
        (b"http:///c", None),
        (b"http://?c", None),
        (b"http://b#/c", None),
        (b"httpx://b/c", None),
    ],
)
async def test_absolute_target_gives_the_path_and_query_that_it_has(target: bytes, path: bytes | None) -> None:
    """RFC 9112 §3.2.2; an empty host is none: RFC 9110 §4.2.1."""
    sent, got = await all_of(b"GET %b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n" % target)
    assert [each.split(b" ")[1] for each in sent] == ([] if path is None else [path])
    assert got.startswith(b"HTTP/1.1 400 " if path is None else b"HTTP/1.1 200 ")


SLOWLY = (  # so that the answer is begun before its length is known
    Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    Pause(0.02),
    Send(b"2\r\nhi\r\n0\r\n\r\n"),
)
UPGRADE = b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize("fields", [b"Connection: keep-alive\r\n", UPGRADE], ids=["keep-alive", "upgrade"])
async def test_answer_to_http_1_0_is_never_chunked_whatever_is_sent_behind_it(fields: bytes) -> None:
    """RFC 9112 §6.1: the version is the request's own, not that of the one that was read last."""
    body = b"{}" if b"Length" in fields else b""
    data = b"POST /v1/files HTTP/1.0\r\nHost: a\r\n%b\r\n%b" % (fields, body)
    sent, got = await all_of(data + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", *SLOWLY)
    assert len(sent) == 1
    assert b"chunked" not in got
    assert got.endswith(b"\r\n\r\nhi")


async def test_answer_to_http_1_1_is_whole_though_http_1_0_is_sent_behind_it() -> None:
    sent, got = await all_of(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.0\r\n\r\n", *SLOWLY)
    assert len(sent) == 2
    assert got.count(b"HTTP/1.1 200 ") == 2
    assert got.count(b"chunked") == 1


@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/v1/files"])
@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_chunked_request_of_http_1_0_is_refused_and_the_last(target: bytes, connection: bytes) -> None:
    """RFC 9112 §6.1: whoever knows HTTP/1.0 only, reads its body as the next request."""
    head = b"POST %b HTTP/1.0\r\nHost: a\r\nConnection: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % (target, connection)
    sent, got = await all_of(head + b"2\r\n{}\r\n0\r\n\r\n" + b"GET /next HTTP/1.1\r\n" + KEPT)
    assert sent == []
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "host", [b"a b", b"a, b", b"a/b", b"u@a", b"a?b", b"a:b", b"[::1", b"::1", b"\xe9", b"%zz", b"http://a"]
)
async def test_host_that_is_none_is_refused_and_the_request_behind_it_is_not(host: bytes) -> None:
    """RFC 9112 §3.2 asks for a 400; the length of the request is beyond doubt."""
    last = b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    sent, got = await all_of(b"GET /a HTTP/1.1\r\nHost: %b\r\n\r\n" % host + last)
    assert [each.split(b" ")[1] for each in sent] == [b"/b"]
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize("behind", [b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00"])
@pytest.mark.parametrize(
    "head", [b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n"]
)
async def test_bytes_behind_the_last_request_are_not_told_as_a_refused_one(
    head: bytes, behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    sent, got = await all_of(head + behind)
    assert len(sent) == got.count(b"HTTP/1.1 ") == 1
    assert got.startswith(b"HTTP/1.1 200 ")
    assert caplog.messages == []


BAD_CHUNK = b"POST /v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"


async def test_refused_bodies_leave_nothing_in_memory() -> None:
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        for _ in range(20):
            async with RawClient(lane.host, lane.port) as client:
                await client.send(BAD_CHUNK)
                assert (await client.read_response()).status == 400
        await lane.idle()
        for _ in range(30):  # connections whose end is still to be told
            gc.collect()
            left = sum(type(each) is ClientRequest for each in gc.get_objects())
            if left < 5:
                break
            await asyncio.sleep(0.1)
        assert left < 5


async def test_client_that_sends_a_bad_chunk_and_leaves_makes_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        for _ in range(20):
            async with RawClient(lane.host, lane.port) as client:
                await client.send(BAD_CHUNK[:-3])
                await eventually(lambda: lane.service.exchange.in_flight == 1)
                client._writer.write(b"x\r\n")
                client.reset()
            await lane.idle()
        gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize(
    ("asked", "status"),
    [(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", b"405"), (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"400")],
)
async def test_answer_of_ours_has_a_date_and_a_405_what_is_allowed(asked: bytes, status: bytes) -> None:
    """RFC 9110 §6.6.1 and §15.5.6."""
    _, got = await all_of(asked)
    assert got.startswith(b"HTTP/1.1 " + status)
    assert got.count(b"\r\nDate: ") == 1
    assert (b"\r\nAllow: GET, HEAD, POST" in got) == (status == b"405")


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"x", b"chunked, chunked", b"chunked\r\ntransfer-encoding: gzip"])
async def test_answer_in_a_transfer_coding_that_stays_on_it_is_no_answer(coding: bytes) -> None:
    """Its field would be dropped, and the client would take the coded bytes for the body."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n" % coding
    _, got = await all_of(LAST_GET, Send(head + b"2\r\nhi\r\n0\r\n\r\n"))
    assert got.startswith(b"HTTP/1.1 502 ")
    assert b'"bad_body"' in got


async def test_answer_with_a_status_below_100_is_refused_and_not_waited_behind() -> None:
    _, got = await all_of(LAST_GET, Send(b"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nhi"))
    assert got.startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    "noise",
    [
        b"\r\n" * 20,
        b"GET / HTT",
        b"\x16",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
    ],
    ids=["empty lines", "half a line", "one byte of TLS", "half a body"],
)
async def test_connection_that_ends_before_its_request_leaves_nothing_behind(
    noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """ACCEPTANCE 34."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(noise)
            client.half_close()
            assert b"HTTP/1.1 2" not in await client.read_until_idle(0.5)
        await lane.idle()
        assert up.requests == []
        assert "Traceback" not in caplog.text

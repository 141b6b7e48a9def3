"""ACCEPTANCE 34, the other half: what is valid is served, once, with the framing made anew."""

import asyncio

import pytest

from proxy.stub import Stub
from tests.integration.asking import ANSWER, chat, chat_body
from tests.support.lane import policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import RawUpstream, Read, Send

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Agent: qa_agent\r\n\r\n"
CHUNKED = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b"


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/embeddings"])
async def test_request_inside_a_body_stays_a_body(target: str) -> None:
    body = chat_body(messages=[{"role": "user", "content": SMUGGLED.decode()}])
    async with (
        RawUpstream([Read(), Send(ANSWER)]) as up,
        running(policy_of(up.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(request("POST", target, body))
        assert (await client.read_response()).status == 200
        assert await client.read_until_idle(0.05) == b""
    assert [sent.partition(b"\r\n\r\n")[2] for sent in up.requests] == [body]


@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/v1/embeddings"])
@pytest.mark.parametrize("size", [0, 1, 7])
async def test_chunk_extensions_and_trailers_do_not_reach_the_upstream(target: bytes, size: int) -> None:
    body = chat_body(input="Hello")
    wire = b'%x;a=b;c="d"\r\n%b\r\n%x\r\n%b\r\n0;last\r\nX-Trailer: t\r\nX-Agent: qa_agent\r\n\r\n' % (
        10,
        body[:10],
        len(body) - 10,
        body[10:],
    )
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(CHUNKED % (target, wire), size=size, pause=0.0001)
            assert (await client.read_response()).status == 200
        assert (await lane.record()).agent == "other"
        (call,) = stub.calls
    assert call.body == body
    assert not {"x-trailer", "x-agent"} & {name.decode().lower() for name, _ in call.headers}


async def test_trailers_of_one_request_are_no_fields_of_the_next() -> None:
    body = chat_body()
    trailers = b"X-Trailer: t\r\nX-Agent: qa_agent\r\nX-User-Id: user-1\r\nAuthorization: Bearer stolen\r\n"
    first = CHUNKED % (b"/v1/chat/completions", b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers))
    async with (
        Stub() as stub,
        running(policy_of(stub.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        for data in (first, chat(agent=None, user=None), first + chat(agent=None, user=None)):
            await client.send(data)
            assert (await client.read_response()).status == 200
        assert (await client.read_response()).status == 200
        await lane.record(4)
        assert [record.agent for record in lane.records] == ["other"] * 4
        assert not any(call.header("x-trailer") for call in stub.calls)


async def test_pipelined_requests_are_answered_in_order_one_upstream_request_each() -> None:
    targets = [f"/v1/models/{number}" for number in range(8)]
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(b"".join(request("GET", target) for target in targets))
            answers = [await client.read_response() for _ in targets]
        assert [answer.status for answer in answers] == [200] * 8
        await lane.record(8)
    assert [sent.split(b" ")[1].decode() for sent in up.requests] == targets


async def test_malformed_request_behind_a_valid_one_is_refused_and_never_joined_to_it() -> None:
    """The valid one may be answered or not; behind the refusal nothing is."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(request("GET", "/first") + b"GET /bad\x00 HTTP/1.1\r\n\r\n" + request("GET", "/smuggled"))
            got = await client.read() + await client.read_until_idle(0.15)
        assert b"HTTP/1.1 400" in got
        assert got.count(b"HTTP/1.1 ") <= 2
    assert [sent.split(b" ")[1] for sent in up.requests] in ([], [b"/first"])


async def test_bytes_behind_a_request_that_closes_are_not_a_request() -> None:
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(request("GET", "/first", headers=[("Connection", "close")]) + SMUGGLED)
            got = await client.read() + await client.read_until_idle(0.15)
        assert got.count(b"HTTP/1.1 ") == 1
    assert [sent.split(b" ")[1] for sent in up.requests] in ([], [b"/first"])


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
async def test_upgrade_is_not_offered_to_the_upstream_and_its_bytes_are_not_served(upgrade: str) -> None:
    fields = [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat(headers=fields))
            assert (await client.read_response()).status in (200, 400)
            await client.send(SMUGGLED)
            assert b"101" not in await client.read_until_idle(0.05)
        await lane.idle()
    assert not any(b"upgrade" in sent.lower() for sent in up.requests)
    assert len(up.requests) <= 2


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/models"])
async def test_upstream_that_switches_protocols_is_a_failure(target: str) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + ANSWER
    async with (
        RawUpstream([Read(), Send(switch)]) as up,
        running(policy_of(up.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat(target=target))
        async with asyncio.timeout(5):
            assert (await client.read_response()).status == 502

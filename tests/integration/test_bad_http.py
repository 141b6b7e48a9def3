"""ACCEPTANCE 34: malformed requests and smuggling attempts, of our own making from RFC 9112.

None of them is served, none reaches the upstream as a request, and none takes anything with it: one
answer of ours with a 4xx, nothing of the input in it, and one line in the log.
"""

import logging

import pytest

from tests.integration.asking import ANSWER, error_of
from tests.integration.malformed import CANARY, INVALID, UNCERTAIN, UNFRAMED, by_name
from tests.support.lane import policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import RawUpstream, Read, Send


@pytest.mark.parametrize("data", by_name(INVALID))
async def test_invalid_request_is_refused_without_a_trace_of_it(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """ACCEPTANCE 34."""
    caplog.set_level(logging.INFO)
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(data)
            answer = await client.read_response()
            rest = await client.read_until_idle(0.05)
        await lane.idle()
        assert 400 <= answer.status < 500
        assert error_of(answer)["type"] == "invalid_request_error"
        assert rest == b""
        assert up.requests == []
        assert not any(b"smuggled" in connection.received for connection in up.connections)
        assert CANARY not in repr(answer).encode()
        assert CANARY.decode() not in caplog.text
        assert "Traceback" not in caplog.text


@pytest.mark.parametrize("data", by_name(UNFRAMED))
async def test_request_whose_end_is_uncertain_ends_the_connection(data: bytes) -> None:
    """ACCEPTANCE 34."""
    async with (
        RawUpstream([Read(), Send(ANSWER)]) as up,
        running(policy_of(up.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(data)
        assert (await client.read_response()).head.get(b"connection") == b"close"
        assert await client.wait_closed() == "fin"


@pytest.mark.parametrize("data", by_name(INVALID))
async def test_invalid_request_is_one_line_in_the_log(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """ACCEPTANCE 34."""
    caplog.set_level(logging.INFO)
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(data)
            await client.read_until_idle(0.05)
        await lane.idle()
        lines = [(record.name, record.getMessage()) for record in caplog.records]
    assert len(lines) == 1, lines
    assert lines[0][0].startswith("splitlane")


@pytest.mark.parametrize("data", by_name(UNCERTAIN))
async def test_request_that_may_be_read_in_two_ways_reaches_the_upstream_at_most_once(data: bytes) -> None:
    """ACCEPTANCE 34: RFC 9112 leaves it to us whether we serve these; we never add to them."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(data)
            assert (await client.read_response()).status < 500
            assert await client.read_until_idle(0.05) == b""
        await lane.idle()
        assert len(up.requests) <= 1
        for sent in up.requests:
            head, _, body = sent.partition(b"\r\n\r\n")
            assert head.lower().count(b"\r\nhost:") == 1
            assert head.lower().count(b"content-length") + head.lower().count(b"transfer-encoding") <= 1
            assert b"\n" not in head.replace(b"\r\n", b"")
            assert b"\x00" not in head
            assert body in (b"", b"hello")


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

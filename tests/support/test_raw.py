import asyncio

import pytest

from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import (
    Action,
    Close,
    Pause,
    RawUpstream,
    Read,
    Reset,
    Send,
    Stall,
    chunk,
    event_stream,
    request_length,
    response,
)


async def test_script_starts_over_for_every_request_and_keeps_the_bytes() -> None:
    async with RawUpstream([Read(), Send(response(b"{}"))]) as up, RawClient(up.host, up.port) as client:
        asked = request("POST", "/a%2Fb", b'{"x":1.50}', [("X-Odd", "\xe9")])
        for _ in range(2):
            await client.send(asked, size=7)
            answer = await client.read_response()
            assert (answer.status, answer.body, answer.clean_end) == (200, b"{}", True)
    assert up.requests == [asked, asked]
    assert bytes(up.connections[0].received) == asked * 2


async def test_script_by_connection_number_resets_a_connection_used_before() -> None:
    ok = response(b"{}")
    scripts: dict[int, list[Action]] = {1: [Read(), Send(ok), Read(), Reset()], 2: [Read(), Send(ok)]}
    async with RawUpstream(lambda number: scripts[number]) as up:
        async with RawClient(up.host, up.port) as client:
            await client.send(request("GET", "/1"))
            assert (await client.read_response()).status == 200
            await client.send(request("GET", "/2"))
            with pytest.raises(ConnectionResetError):
                await client.read_response()
        async with RawClient(up.host, up.port) as client:
            await client.send(request("GET", "/3"))
            assert (await client.read_response()).status == 200
    assert len(up.connections) == 2


async def test_fragments_arrive_one_by_one() -> None:
    async with (
        RawUpstream([Read(), Send(b"HTTP/1.1", size=1, pause=0.01), Close()]) as up,
        RawClient(up.host, up.port) as client,
    ):
        await client.send(request("GET", "/"))
        parts = []
        while data := await client.read():
            parts.append(data)
    assert b"".join(parts) == b"HTTP/1.1"
    assert len(parts) > 1


@pytest.mark.parametrize("ending", [Close(), Reset()])
async def test_stream_without_terminator_is_no_clean_end(ending: Close | Reset) -> None:
    stream = event_stream(b"data: 1\n\n", b"data: 2\n\n", end=False)
    async with (
        RawUpstream([Read(), Send(stream), Pause(0.02), ending]) as up,
        RawClient(up.host, up.port) as client,
    ):
        await client.send(request("GET", "/"))
        answer = await client.read_response()
    assert [piece.data for piece in answer.pieces] == [b"data: 1\n\n", b"data: 2\n\n"]
    assert not answer.clean_end


async def test_peer_that_leaves_during_a_stall_is_seen() -> None:
    async with RawUpstream([Read(), Stall(), Close()]) as up:
        for rst in (False, True):
            async with RawClient(up.host, up.port) as client:
                await client.send(request("GET", "/"))
                await asyncio.sleep(0.02)
                assert not up.connections[-1].closed_at
                if rst:
                    client.reset()
            await asyncio.sleep(0.02)
            assert up.connections[-1].closed_at
            assert up.connections[-1].was_reset == rst


async def test_our_own_close_is_not_the_peers() -> None:
    async with (
        RawUpstream([Read(), Send(response(b"")), Close()]) as up,
        RawClient(up.host, up.port) as client,
    ):
        await client.send(request("GET", "/"))
        assert (await client.read_response()).clean_end
        assert await client.wait_closed() == "fin"
        await asyncio.sleep(0.01)
        assert up.connections[0].closed_at is None


async def test_half_close_is_answered_still() -> None:
    async with (
        RawUpstream([Read(), Pause(0.02), Send(response(b"{}")), Close()]) as up,
        RawClient(up.host, up.port) as client,
    ):
        await client.send(request("GET", "/"))
        client.half_close()
        assert (await client.read_response()).status == 200


async def test_body_without_length_ends_with_the_connection() -> None:
    async with (
        RawUpstream([Read(), Send(b"HTTP/1.1 200 OK\r\n\r\nabc"), Close()]) as up,
        RawClient(up.host, up.port) as client,
    ):
        await client.send(request("GET", "/"))
        answer = await client.read_response()
    assert (answer.body, answer.clean_end) == (b"abc", True)


async def test_reader_gives_up_on_silence() -> None:
    async with (
        RawUpstream([Read(), Send(b"partial"), Stall()]) as up,
        RawClient(up.host, up.port, timeout=0.1) as client,
    ):
        await client.send(request("GET", "/"))
        assert await client.read_until_idle(0.05) == b"partial"
        with pytest.raises(TimeoutError):
            await client.read_response()


async def test_mistake_in_a_script_fails_the_test() -> None:
    async def play() -> None:
        script: list[Action] = [Read(), Send("text")]  # type: ignore[arg-type]
        async with RawUpstream(script) as up, RawClient(up.host, up.port) as client:
            await client.send(request("GET", "/"))
            await asyncio.sleep(0.02)

    with pytest.raises(TypeError):
        await play()


@pytest.mark.parametrize(
    "whole",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") + b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nTrailer: 1\r\n\r\n",
    ],
)
def test_request_is_complete_at_its_last_byte_only(whole: bytes) -> None:
    for cut in range(len(whole)):
        assert request_length(whole[:cut]) == 0
    assert request_length(whole) == request_length(whole + b"GET /next") == len(whole)

"""The relay and its faults do what they say, byte by byte."""

import asyncio
import re
import time

import pytest

from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Close, RawUpstream, Read, Send, response
from tests.support.relay import Network, Relay
from tests.support.toxics import (
    At,
    Bandwidth,
    Down,
    Hold,
    Latency,
    LimitData,
    Reset,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

ANSWER = response(b"0123456789")
HEAD = re.compile(rb"\r\n\r\n")
ASKED = request("GET", "/")


async def got(*toxics: Toxic) -> tuple[bytes, str, float]:
    """What a client gets of one answer through the toxics, how that ends, and after how long."""
    started = time.perf_counter()
    async with (
        RawUpstream([Read(), Send(ANSWER), Close()]) as up,
        Relay(up.port, response=toxics) as network,
        RawClient(network.host, network.port, timeout=2) as client,
    ):
        await client.send(ASKED)
        data = b""
        try:
            while piece := await client.read():
                data += piece
        except ConnectionError:
            return data, "rst", time.perf_counter() - started
    return data, "fin", time.perf_counter() - started


@pytest.mark.parametrize("toxic", [Slicer(3), Latency(0.01), Bandwidth(10_000.0), SlowClose(0.01), At(HEAD, Slicer(1))])
async def test_bytes_arrive_unchanged_where_the_network_is_only_slow(toxic: Toxic) -> None:
    assert (await got(toxic))[:2] == (ANSWER, "fin")


@pytest.mark.parametrize(
    ("toxic", "least"),
    [(Latency(0.15), 0.15), (Bandwidth(len(ANSWER) * 5.0), 0.15), (SlowClose(0.15), 0.15), (Slicer(30, 0.05), 0.1)],
)
async def test_time_that_a_fault_takes_is_taken(toxic: Toxic, least: float) -> None:
    assert (await got(toxic))[2] >= least


@pytest.mark.parametrize(
    ("toxic", "arrived", "ending"),
    [
        (LimitData(20), ANSWER[:20], "fin"),
        (At(20, LimitData()), ANSWER[:20], "fin"),
        (At(HEAD, LimitData(4)), ANSWER[:-6], "fin"),
        (At(HEAD, Reset()), ANSWER[:-10], "rst"),
        (At(0, Reset()), b"", "rst"),
        (At(HEAD, Timeout(0.05)), ANSWER[:-10], "fin"),
        (At(20, Down()), ANSWER[:20], "fin"),
    ],
)
async def test_connection_ends_at_the_byte_it_was_told_to(toxic: Toxic, arrived: bytes, ending: str) -> None:
    assert (await got(toxic))[:2] == (arrived, ending)


async def test_place_is_found_across_pieces_and_faults_follow_one_another() -> None:
    assert (await got(Slicer(1), At(HEAD, LimitData(2)), Slicer(3)))[:2] == (ANSWER[:-8], "fin")


async def test_silence_without_an_end_lasts() -> None:
    async with (
        RawUpstream([Read(), Send(ANSWER)]) as up,
        Relay(up.port, response=[Timeout()]) as network,
        RawClient(network.host, network.port) as client,
    ):
        await client.send(ASKED)
        assert await client.read_until_idle(0.1) == b""
        assert len(up.requests) == 1


async def test_request_can_be_lost_and_down_refuses_who_comes_next() -> None:
    async with RawUpstream([Read(), Send(ANSWER)]) as up, Relay(up.port, request=[At(4, Down())]) as network:
        async with RawClient(network.host, network.port) as client:
            await client.send(ASKED)
            assert await client.wait_closed() == "fin"
        with pytest.raises(ConnectionRefusedError):
            await RawClient(network.host, network.port).__aenter__()
        await network.up()
        await asyncio.sleep(0)
        assert network.accepted == 1
    assert up.requests == []
    assert bytes(up.connections[0].received) == ASKED[:4]


async def test_what_is_held_comes_once_it_may_and_tells_when_it_is_held() -> None:
    may = asyncio.Event()
    async with (
        RawUpstream([Read(), Send(ANSWER)]) as up,
        Relay(up.port, response=[At(HEAD, Hold(may))]) as network,
        RawClient(network.host, network.port) as client,
    ):
        await client.send(ASKED)
        await network.struck.wait()
        assert await client.read_until_idle(0.05) == ANSWER[:-10]
        may.set()
        assert await client.read() == ANSWER[-10:]


async def test_each_connection_has_the_network_chosen_for_it() -> None:
    networks = {1: Network(response=[LimitData(1)]), 2: Network()}
    async with RawUpstream([Read(), Send(ANSWER)]) as up, Relay(up.port, choose=networks.__getitem__) as network:
        for arrived in (ANSWER[:1], ANSWER):
            async with RawClient(network.host, network.port) as client:
                await client.send(ASKED)
                assert await client.read() == arrived


async def test_reset_by_the_client_reaches_the_upstream_as_one() -> None:
    async with (
        RawUpstream([Read()]) as up,
        Relay(up.port) as network,
        RawClient(network.host, network.port) as client,
    ):
        await client.send(ASKED)
        async with asyncio.timeout(2):
            while not up.requests:
                await asyncio.sleep(0.005)
        client.reset()
        await up.connections[0].lost.wait()
        assert up.connections[0].was_reset

"""A connection that is over is freed at once: nothing of it waits for the garbage collector, which hardly runs here."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from proxy.stub import Stub, StubConfig
from tests.integration.asking import chat, chat_body
from tests.support.lane import Lane, policy_of, running
from tests.support.raw_client import RawClient

POOL = {"upstreams": {"up": {"pool": {"keepalive": "20ms"}}}}


async def served(client: RawClient) -> None:
    """… and its upstream's connection ends by itself."""
    await client.send(chat())
    await client.read_response()


async def left(client: RawClient) -> None:
    await client.send(chat(headers=[("x-stub-fault", "silence")]))
    await asyncio.sleep(0.02)
    client.reset()


async def left_in_the_body(client: RawClient) -> None:
    await client.send(chat()[:-5])
    await asyncio.sleep(0.02)


async def left_in_a_stream(client: RawClient) -> None:
    await client.send(chat(chat_body(stream=True), headers=[("x-stub-fault", "stall=2")]))
    await client.read_head()
    client.reset()


async def cut(client: RawClient) -> None:
    await client.send(chat(chat_body(stream=True), headers=[("x-stub-fault", "cut=4")]))
    await client.read_response()


async def reset(client: RawClient) -> None:
    await client.send(chat(headers=[("x-stub-fault", "reset")]))
    await client.read_response()


async def malformed(client: RawClient) -> None:
    await client.send(b"GET / HTTP/1.1\r\nX-A\x00: b\r\n\r\n")
    await client.read_response()


async def refused(client: RawClient) -> None:
    await client.send(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.read_response()


async def pipelined(client: RawClient) -> None:
    await client.send(chat(headers=[("x-stub-fault", "silence")]) + chat() * 3)
    await asyncio.sleep(0.02)
    client.reset()


ENDS: list[Callable[[RawClient], Awaitable[None]]] = [
    served, left, left_in_the_body, left_in_a_stream, cut, reset, malformed, refused, pipelined,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
async def test_nothing_of_it_is_left(end: Callable[[RawClient], Awaitable[None]]) -> None:
    async with Stub(StubConfig()) as stub, running(policy_of(stub.url, **POOL)) as lane:
        await once(lane, end)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await once(lane, end)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = {f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not [name for name in found if name.startswith("proxy.") and not name.startswith("proxy.stub.")]


async def once(lane: Lane, end: Callable[[RawClient], Awaitable[None]]) -> None:
    """One connection to its end, on both sides."""
    async with RawClient(lane.host, lane.port) as client:
        await end(client)
    async with asyncio.timeout(5):
        while lane.service.connections or lane.service.exchange.in_flight:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.06)  # the upstream's connection has been idle for too long

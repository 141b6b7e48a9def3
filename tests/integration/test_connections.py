"""ACCEPTANCE 33: floods of connections, and a process that may open no more files."""

import asyncio
import contextlib
import os
import resource
from pathlib import Path

from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat, error_of
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient
from tests.support.served import serving, write_policy


async def opened(lane: Lane, stack: contextlib.AsyncExitStack, count: int) -> list[RawClient]:
    """So many connections that say nothing."""
    clients = [await stack.enter_async_context(RawClient(lane.host, lane.port)) for _ in range(count)]
    await eventually(lambda: lane.service.connections + lane.service.turned_away >= count)
    return clients


async def test_connection_over_the_limit_is_told_so_at_once_and_those_that_are_open_are_served() -> None:
    policy = {"limits": {"max_connections": 8}}
    async with (
        Stub() as stub,
        running(policy_of(stub.url, **policy)) as lane,
        contextlib.AsyncExitStack() as stack,
    ):
        first, *_ = await opened(lane, stack, 8)
        async with RawClient(lane.host, lane.port) as late:
            refused = await late.read_response()  # before it has asked
            assert (refused.status, error_of(refused)["code"]) == (503, "overload")
            assert refused.head.get(b"retry-after") == b"1"
            assert await late.wait_closed() == "fin"
        for _ in range(3):
            await first.send(chat())
            assert (await first.read_response()).status == 200
        await first.close()
        await eventually(lambda: lane.service.connections == 7)
        assert (await ask(lane, chat())).status == 200
        assert lane.service.turned_away == 1


async def test_connections_that_say_nothing_make_room_within_the_time_for_a_head() -> None:
    """Only those that came when half of the room was taken; the others may wait for as long as ever."""
    policy = {"limits": {"max_connections": 40, "request_headers": "200ms"}}
    async with (
        Stub() as stub,
        running(policy_of(stub.url, **policy)) as lane,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = await opened(lane, stack, 60)
        assert lane.service.turned_away == 20
        await eventually(lambda: lane.service.connections == 20)
        assert (await ask(lane, chat())).status == 200
        await clients[0].send(chat())
        assert (await clients[0].read_response()).status == 200


async def test_process_that_may_open_no_more_files_serves_on_blames_no_upstream_and_recovers(tmp_path: Path) -> None:
    """ACCEPTANCE 33: neither breaker nor brake hears of it."""
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, ab_testing={"enabled": False})
        async with serving(path) as proxy, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(proxy.client()) for _ in range(6)]
            for client in clients:  # one after the other: one connection to the upstream
                await client.send(chat())
                assert (await client.read_response()).status == 200
            limits = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
            highest = max(int(each) for each in os.listdir(f"/proc/{proxy.pid}/fd"))  # noqa: PTH208
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
            stub.set_fault("*", "slow=0.2")
            for client in clients:  # at once: five of them need a new connection, and there may be few or none
                await client.send(chat())
            statuses = [(await client.read_response()).status for client in clients]
            assert set(statuses) <= {200, 503}
            assert statuses.count(200) >= 1
            flood = [asyncio.create_task(_try(proxy.client())) for _ in range(20)]
            await asyncio.gather(*flood)
            await clients[0].send(chat())
            assert (await clients[0].read_response()).status == 200
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, limits)
            stub.set_fault("*", "slow=0.001")
            async with asyncio.timeout(10):
                while await _try(proxy.client()) != 200:
                    await asyncio.sleep(0.05)
            page = (await proxy.ask_admin("/metrics")).body.decode()
            assert 'splitlane_breaker_open{agent="qa_agent"} 0.0' in page
            assert f'model="{FINETUNED}",reason="connect"' not in page
            assert f'model="{BASELINE}",reason="connect"' not in page
            assert not any("traceback" in line for line in proxy.log)


async def _try(client: RawClient) -> int:
    """A request's status; 0 where the connection was not taken, or ended."""
    with contextlib.suppress(OSError, EOFError):
        async with asyncio.timeout(0.5), client:
            await client.send(chat(user=BASELINE_USER))
            return (await client.read_response()).status
    return 0

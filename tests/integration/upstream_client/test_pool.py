"""The pool: how many connections there are, for how long, and who waits for one.

Point 6 of the issue.
"""

import asyncio
import json
import ssl
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trustme

from proxy.stub import Stub, StubConfig
from tests.support.lane import FINETUNED, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Action, Close, Pause, RawUpstream, Read, Send, Stall, response
from tests.support.rescue import ANSWER, OK, apart, ask, assert_rescued, chat, ours


async def get(lane: Lane) -> int:
    """One pass-through request; its status."""
    async with RawClient(lane.host, lane.port) as client:
        await client.send(request("GET", "/v1/models"))
        return (await client.read_response()).status


async def test_sequential_requests_share_one_connection() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for number in range(20):
            body = b'{"messages":[{"role":"user","content":"hi"}],"stream":%b}' % (b"true" if number % 2 else b"false")
            assert (await ask(lane, body)).clean_end
            assert await get(lane) == 200
        assert stub.accepted == 1
        assert len(stub.calls) == 40


async def test_each_answer_on_a_shared_connection_has_its_own_fields() -> None:
    """ACCEPTANCE 3: nothing of one user's answer is in another's."""
    script: list[Action] = []
    for cookie in ("first", "second", "third"):
        script += [Read(), Send(response(ANSWER, headers=[("set-cookie", cookie), (f"x-{cookie}", "1")]))]
    async with RawUpstream(script) as up, running(policy_of(up.url)) as lane:
        for cookie in ("first", "second", "third"):
            answer = await ask(lane, user=cookie)
            assert answer.head.all(b"set-cookie") == [cookie.encode()]
            names = {name for name, _ in answer.headers if not name.startswith(b"x-splitlane-")}
            assert {name for name in names if name.startswith(b"x-")} == {b"x-" + cookie.encode()}
        assert len(up.connections) == 1


async def test_parallel_requests_have_a_connection_each_and_leave_them_to_the_next() -> None:
    async with Stub(StubConfig(latency=0.1)) as stub, running(policy_of(stub.url)) as lane:
        for _ in range(3):
            await asyncio.gather(*(ask(lane) for _ in range(8)))
        assert stub.accepted <= 8
        assert len(stub.calls) == 24


def pool_policy(url: str, **pool: str | int) -> dict[str, Any]:
    """Sections of a policy: one upstream with that pool."""
    return {"upstreams": {"up": {"base_url": url, "pool": pool}}}


async def test_limit_makes_requests_wait_for_each_other() -> None:
    async with Stub(StubConfig(latency=0.02)) as stub:
        policy = policy_of(stub.url, **pool_policy(stub.url, max_connections=2, wait="20s"))
        async with running(policy) as lane:
            answers = await asyncio.gather(*(ask(lane) for _ in range(20)))
        assert stub.accepted == 2
    assert {answer.status for answer in answers} == {200}


async def test_limit_holds_where_the_upstream_closes_after_every_answer() -> None:
    """Room that comes free is given to who waits, once; the newcomer does not slip in as well."""
    open_now = peak = 0
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, peak
        open_now += 1
        peak = max(peak, open_now)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.001)
        writer.write(last)
        await writer.drain()
        open_now -= 1  # before the proxy can know: what is counted here is never too much
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        policy = policy_of(url, **pool_policy(url, max_connections=3, wait="20s"))
        async with running(policy) as lane:
            statuses: list[int] = []
            for _ in range(20):
                statuses += await asyncio.gather(*(get(lane) for _ in range(20)))
    assert set(statuses) == {200}
    assert peak == 3


async def test_limit_holds_for_uploads_too() -> None:
    """A body that is passed on as it comes needs a connection of its own, but room like any other."""
    async with RawUpstream([Read(body=False), Stall()]) as up:
        policy = policy_of(up.url, **pool_policy(up.url, max_connections=2, wait="100ms"))
        async with running(policy) as lane, AsyncExitStack() as clients:
            for _ in range(4):
                client = await clients.enter_async_context(RawClient(lane.host, lane.port))
                await client.send(request("POST", "/v1/files", headers=[("Content-Length", "9000")]) + b"x")
            await eventually(lambda: len(up.requests) >= 2)
            await asyncio.sleep(0.3)
            assert len(up.connections) == 2


async def test_waiting_too_long_is_an_overload_that_the_baseline_serves() -> None:
    """A full pool says nothing about the model, so it opens no breaker either."""
    async with Stub() as stub, RawUpstream([Read(), Stall()]) as candidate:
        policy = apart(
            candidate.url,
            stub.url,
            candidate={"pool": {"max_connections": 1, "wait": "100ms"}},
            timeouts={"first_byte": "5s"},
            fallback={"breaker": {"failures": 1}},
        )
        async with running(policy) as lane, RawClient(lane.host, lane.port) as first:
            await first.send(chat())
            await eventually(lambda: len(candidate.requests) == 1)
            for _ in range(3):
                assert_rescued(await ask(lane), "overload")
            assert len(candidate.connections) == 1


async def test_waiting_too_long_everywhere_is_a_503() -> None:
    async with RawUpstream([Read(), Stall()]) as up:
        policy = policy_of(up.url, **pool_policy(up.url, max_connections=1, wait="100ms"))
        async with running(policy) as lane, RawClient(lane.host, lane.port) as first:
            await first.send(chat())
            await eventually(lambda: len(up.requests) == 1)
            started = asyncio.get_running_loop().time()
            answer = await ask(lane, user="user-42")
            took = asyncio.get_running_loop().time() - started
            record = await lane.record()
        assert len(up.connections) == 1
    assert answer.status == 503
    assert int(answer.head.get(b"retry-after") or 0) >= 1
    assert json.loads(answer.body)["error"]["code"] == record.failure == "overload"
    assert 0.09 <= took < 0.9


async def test_wait_for_a_place_and_connecting_share_the_total_deadline() -> None:
    """ACCEPTANCE 15: what was spent in the queue is not there for the handshake."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    accepted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        if accepted > 1:
            await reader.read()  # the client's first words, and never an answer
        else:
            await writer.start_tls(context)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.6)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with authority.cert_pem.tempfile() as ca_file:
            settings = pool_policy(url, max_connections=1, wait="5s")
            settings["upstreams"]["up"] |= {
                "ca_file": ca_file,
                "timeouts": {"connect": "20s", "total": "800ms"},
            }
            async with running(policy_of(url, **settings)) as lane:
                holder = asyncio.ensure_future(get(lane))
                await eventually(lambda: accepted == 1)
                started = asyncio.get_running_loop().time()
                assert (await ask(lane, user="user-42")).status == 504
                took = asyncio.get_running_loop().time() - started
                assert await holder == 200
        assert accepted == 2
    assert 0.75 <= took < 1.2


async def test_client_that_leaves_the_queue_takes_nobodys_place() -> None:
    async with Stub(StubConfig(faults={"*": "slow=0.3,count=1"})) as stub:
        policy = policy_of(stub.url, **pool_policy(stub.url, max_connections=1, wait="20s"))
        async with running(policy) as lane:
            holder = asyncio.ensure_future(ask(lane))
            await eventually(lambda: len(stub.calls) == 1)
            async with RawClient(lane.host, lane.port) as leaving:
                await leaving.send(chat())
                await eventually(lambda: lane.service.exchange.in_flight == 2)
            waiting = asyncio.ensure_future(ask(lane))
            assert ours(await waiting)["served"] == FINETUNED
            await holder
        assert len(stub.calls) == 2
        assert stub.accepted == 1


async def test_idle_connections_are_closed_after_keepalive() -> None:
    async with RawUpstream([Read(), Send(OK)]) as up:
        policy = policy_of(up.url, **pool_policy(up.url, max_connections=8, keepalive="300ms"))
        async with running(policy) as lane:
            await ask(lane)
            await ask(lane)
            assert len(up.connections) == 1
            await eventually(lambda: up.connections[0].closed_at is not None, within=2)
            assert (await ask(lane)).status == 200
        assert [len(each.requests) for each in up.connections] == [2, 1]


async def test_busy_connections_outlive_keepalive() -> None:
    """Idleness is between requests: a long answer is none."""
    async with RawUpstream([Read(), Pause(0.15), Send(OK)]) as up:
        policy = policy_of(up.url, **pool_policy(up.url, max_connections=8, keepalive="100ms"))
        async with running(policy) as lane:
            for _ in range(3):
                assert (await ask(lane)).body == ANSWER
        assert len(up.connections) == 1


@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
async def test_client_that_leaves_closes_the_socket_of_its_attempt(rst: bool) -> None:
    async with RawUpstream([Read(), Stall()]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat())
            await eventually(lambda: len(up.requests) == 1)
            if rst:
                client.reset()
        await eventually(lambda: up.connections[0].closed_at is not None, within=1)
        await lane.idle()
        assert len(up.connections) == 1


async def test_left_attempt_does_not_shrink_the_pool() -> None:
    """Ten clients leave, one after the other; the one place of the pool is still there."""
    stalling: list[Action] = [Read(), Stall()]
    answering: list[Action] = [Read(), Send(OK), Close()]
    async with RawUpstream(lambda n: stalling if n <= 10 else answering) as up:
        policy = policy_of(up.url, **pool_policy(up.url, max_connections=1, wait="2s"))
        async with running(policy) as lane:
            for number in range(1, 11):
                async with RawClient(lane.host, lane.port) as client:
                    await client.send(chat())
                    await eventually(lambda number=number: len(up.requests) == number)  # type: ignore[misc]
                await lane.idle()
            assert (await ask(lane)).body == ANSWER

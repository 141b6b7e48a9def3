"""ACCEPTANCE 31: the end of the process, with requests in every state of completion."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat, chat_body
from tests.support.lane import Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.served import Served, log_lines, serving, write_policy

pytestmark = pytest.mark.alone  # it measures

HEAD = b"POST %b HTTP/1.1\r\nHost: a\r\nx-agent: qa_agent\r\nx-user-id: user-42\r\n"
STREAM = chat(chat_body(stream=True), headers=[("x-stub-fault", "drip=0.05")])
SLOW = chat(headers=[("x-stub-fault", "slow=0.6")])

Finish = Callable[[], Coroutine[None, None, RawResponse]]


async def begin(
    stack: AsyncExitStack, client: RawClient, first: bytes, rest: bytes = b"", pause: float = 0.0
) -> Finish:
    """Send `first` now; what is returned sends `rest` after `pause` seconds and reads the answer."""
    await stack.enter_async_context(client)
    await client.send(first)

    async def finish() -> RawResponse:
        await asyncio.sleep(pause)
        await client.send(rest)
        return await client.read_response()

    return finish


async def not_ready(proxy: Served) -> None:
    async with asyncio.timeout(5):
        while (await proxy.ask_admin("/readyz")).status != 503:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_everything_that_can_finish_within_the_grace_finishes(tmp_path: Path, number: signal.Signals) -> None:
    """ACCEPTANCE 31: streams, slow answers, half-sent heads and bodies, idle connections."""
    body = chat_body()
    announced = HEAD % b"/v1/chat/completions" + b"Content-Length: %d\r\n\r\n" % len(body)
    chunked = HEAD % b"/v1/chat/completions" + b"Transfer-Encoding: chunked\r\n\r\n"
    upload = HEAD % b"/v1/files" + b"Content-Length: 6\r\n\r\nabc"
    whole = chat(body)
    async with (
        AsyncExitStack() as stack,
        Stub(StubConfig(words=20)) as stub,
        serving(write_policy(tmp_path, stub.url, limits={"drain": "10s"})) as proxy,
    ):
        streams = [await begin(stack, proxy.client(), STREAM) for _ in range(5)]
        slow = [await begin(stack, proxy.client(), SLOW) for _ in range(5)]
        halves = [
            await begin(stack, proxy.client(), announced + body[:9], body[9:], 0.6),
            await begin(stack, proxy.client(), announced, body, 0.6),
            await begin(
                stack,
                proxy.client(),
                chunked + b"%x\r\n%b\r\n" % (9, body[:9]),
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 9, body[9:]),
                0.6,
            ),
            await begin(stack, proxy.client(), upload, b"def", 0.6),
            await begin(stack, proxy.client(), whole[:30], whole[30:], 0.6),
        ]
        async with proxy.client() as idle, proxy.client() as fresh, proxy.client() as late:
            for client in (idle, late):
                await client.send(chat())
                assert (await client.read_response()).status == 200
            await eventually(lambda: len(stub.calls) >= 12)
            proxy.terminate(number)
            await late.send(chat())  # on its way when the drain began
            finishing = [asyncio.create_task(finish()) for finish in [*streams, *slow, *halves]]
            await not_ready(proxy)
            assert (await proxy.ask_admin("/livez")).status == 200
            answer = await late.read_response()
            assert (answer.status, answer.head.get(b"connection")) == (200, b"close")
            assert await idle.wait_closed() == await fresh.wait_closed() == "fin"
            answers = await asyncio.gather(*finishing)
        assert [(each.clean_end, each.status) for each in answers[:-2]] == [(True, 200)] * 13
        assert answers[0].body.endswith(b"data: [DONE]\n\n")
        assert answers[-2].status in (200, 404)  # whatever the stub says of files
        assert (answers[-1].clean_end, answers[-1].status) == (True, 200)
        assert {each.head.get(b"connection") for each in answers[5:]} == {b"close"}
        assert await proxy.exit_code() == 0
    assert log_lines(proxy.log)[-1]["message"] == "stopped"
    assert not any("traceback" in line for line in log_lines(proxy.log))


async def test_busy_clients_lose_no_request_at_sigterm(tmp_path: Path) -> None:
    """ACCEPTANCE 31: each goes on until it is told to close, or is not let in any more."""
    async with (
        Stub(StubConfig(latency=0.01)) as stub,
        serving(write_policy(tmp_path, stub.url, limits={"drain": "5s"})) as proxy,
    ):

        async def work() -> int:
            """Requests answered; on one connection after another, until none is taken any more."""
            done = 0
            told = False
            while True:
                try:
                    async with proxy.client() as client:
                        closing = False
                        while not closing:
                            await client.send(chat())
                            answer = await client.read_response()
                            assert (answer.status, answer.clean_end) == (200, True)
                            done += 1
                            closing = told = answer.head.get(b"connection") == b"close"
                except (ConnectionRefusedError, ConnectionResetError):
                    # Reset: the kernel took the connection just before the listener closed.
                    assert told, "a connection in use was cut"
                    return done

        working = [asyncio.create_task(work()) for _ in range(16)]
        await eventually(lambda: len(stub.calls) > 100)
        proxy.terminate()
        finished = await asyncio.gather(*working)
        assert sum(finished) == len(stub.calls)
        assert await proxy.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """ACCEPTANCE 31."""
    async with (
        AsyncExitStack() as stack,
        Stub(StubConfig(words=100_000)) as stub,
        serving(write_policy(tmp_path, stub.url, limits={"drain": "60s"})) as proxy,
    ):
        finish = await begin(stack, proxy.client(), STREAM)
        reading = asyncio.create_task(finish())
        await eventually(lambda: any(call.state.chunks > 2 for call in stub.calls))
        proxy.terminate(number)
        await not_ready(proxy)
        assert not reading.done()
        proxy.terminate(number)
        started = time.monotonic()
        answer = await reading
        await proxy.exit_code(within=3)
        assert time.monotonic() - started < 3
        assert answer.pieces
        assert not answer.clean_end


async def test_new_connections_are_refused_once_the_drain_has_begun(tmp_path: Path) -> None:
    """ACCEPTANCE 31: while what is in flight goes on."""
    async with (
        AsyncExitStack() as stack,
        Stub(StubConfig(words=40)) as stub,
        serving(write_policy(tmp_path, stub.url, limits={"drain": "10s"})) as proxy,
    ):
        finish = await begin(stack, proxy.client(), STREAM)
        await eventually(lambda: bool(stub.calls))
        proxy.terminate()
        await not_ready(proxy)
        async with asyncio.timeout(5):
            while True:
                try:
                    async with proxy.client():
                        await asyncio.sleep(0.01)
                except ConnectionRefusedError:
                    break
        answer = await finish()
        assert (answer.status, answer.clean_end) == (200, True)
        assert await proxy.exit_code() == 0


async def ready(lane: Lane) -> int:
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", "/readyz"))
        return (await client.read_response()).status


async def test_drain_delay_keeps_serving_with_connection_close_and_readiness_gone() -> None:
    """ACCEPTANCE 31: the time a load balancer needs to look elsewhere."""
    policy = {"limits": {"drain_delay": "600ms", "drain": "2s"}}
    async with Stub() as stub, running(policy_of(stub.url, **policy)) as lane:
        host, port = lane.host, lane.port
        assert await ready(lane) == 200
        stopping = asyncio.create_task(lane.service.stop())
        await asyncio.sleep(0.05)
        assert await ready(lane) == 503
        for _ in range(2):
            answer = await ask(lane, chat())
            assert (answer.status, answer.head.get(b"connection")) == (200, b"close")
        assert not stopping.done()
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await RawClient(host, port).__aenter__()


BOUND = {"limits": {"drain": "500ms"}}


async def test_stream_beyond_the_bound_is_cut_visibly_and_recorded_as_shutdown() -> None:
    """ACCEPTANCE 31: the bound is the configured one."""
    async with (
        Stub(StubConfig(words=100_000)) as stub,
        running(policy_of(stub.url, **BOUND)) as lane,
        AsyncExitStack() as stack,
    ):
        finish = await begin(stack, RawClient(lane.host, lane.port), STREAM)
        reading = asyncio.create_task(finish())
        await eventually(lambda: any(call.state.chunks > 2 for call in stub.calls))
        started = time.monotonic()
        await lane.service.stop()
        assert 0.4 < time.monotonic() - started < 3.0
        answer = await reading
        assert answer.status == 200
        assert answer.pieces
        assert not answer.clean_end
        assert not answer.body.endswith(b"data: [DONE]\n\n")
        record = await lane.record()
        assert (record.failure, record.usage is not None) == ("shutdown", True)
        assert len(lane.records) == 1
        await eventually(lambda: stub.calls[0].client_gone_at is not None)


async def test_stream_cut_by_the_drain_ends_with_an_error_event() -> None:
    """DESIGN §1: a broken end is told, by an event and a missing terminating chunk."""
    async with (
        Stub(StubConfig(words=100_000)) as stub,
        running(policy_of(stub.url, **BOUND)) as lane,
        AsyncExitStack() as stack,
    ):
        finish = await begin(stack, RawClient(lane.host, lane.port), STREAM)
        reading = asyncio.create_task(finish())
        await eventually(lambda: any(call.state.chunks > 2 for call in stub.calls))
        await lane.service.stop()
        answer = await reading
        assert not answer.clean_end
        assert b'"code":"shutdown"' in answer.pieces[-1].data


@pytest.mark.parametrize(
    "first",
    [
        chat(headers=[("x-stub-fault", "silence")]),
        HEAD % b"/v1/chat/completions" + b"Content-Length: 99\r\n\r\n{",
    ],
    ids=["waiting for the upstream", "waiting for the client"],
)
async def test_request_beyond_the_bound_is_never_answered_well_and_recorded_as_shutdown(first: bytes) -> None:
    """ACCEPTANCE 31."""
    async with Stub() as stub, running(policy_of(stub.url, **BOUND)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(first)
            await eventually(lambda: lane.service.connections == 1)
            await asyncio.sleep(0.05)
            started = time.monotonic()
            await lane.service.stop()
            assert 0.4 < time.monotonic() - started < 3.0
            assert b"HTTP/1.1 2" not in await client.read_until_idle()
        assert [record.failure for record in lane.records] == ["shutdown"]
        assert lane.service.connections == 0


async def test_drain_without_requests_takes_no_longer_than_closing_idle_connections() -> None:
    """ACCEPTANCE 31: idle clients do not hold the process for the whole bound."""
    async with (
        Stub() as stub,
        running(policy_of(stub.url, limits={"drain": "20s"})) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat())
        await client.read_response()
        started = time.monotonic()
        await lane.service.stop()
        assert time.monotonic() - started < 3.0
        assert await client.wait_closed() == "fin"

"""ACCEPTANCE 31: one drain, with a request in each phase of its life: what becomes of each."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from proxy.stub import Stub, StubConfig
from tests.integration.asking import chat, chat_body
from tests.support.lane import Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse
from tests.support.raw_upstream import RawUpstream, Read, Send, response

HEAD = b"POST %b HTTP/1.1\r\nHost: a\r\nx-agent: qa_agent\r\nx-user-id: user-42\r\n"
BODY = chat_body()
ANNOUNCED = HEAD % b"/v1/chat/completions" + b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = HEAD % b"/v1/chat/completions" + b"Transfer-Encoding: chunked\r\n\r\n"


def faulty(fault: str, **fields: object) -> bytes:
    """A whole chat with which that goes wrong."""
    return chat(chat_body(**fields), headers=[("x-stub-fault", fault)])


@dataclass(frozen=True)
class Phase:
    """What a client has sent when the drain begins, and what it would send to go on."""

    first: bytes
    rest: bytes = b""
    calls: int = 0  # that the upstream has got by then
    endless: bytes = b""  # … instead of `first`, where the request is not to finish


PHASES = {
    "half a head": Phase(ANNOUNCED[:30], ANNOUNCED[30:] + BODY),
    "a head and no body": Phase(ANNOUNCED, BODY),
    "half a body": Phase(ANNOUNCED + BODY[:9], BODY[9:]),
    "half a chunked body": Phase(
        CHUNKED + b"9\r\n%b\r\n" % BODY[:9], b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 9, BODY[9:])
    ),
    "half an upload, passed through": Phase(HEAD % b"/v1/files" + b"Content-Length: 6\r\n\r\nabc", b"def"),
    "waiting for the upstream": Phase(faulty("slow=0.4"), calls=1, endless=faulty("silence")),
    "a stream before its head": Phase(faulty("slow=0.4", stream=True), calls=1, endless=faulty("silence", stream=True)),
    "a stream before its content": Phase(
        faulty("slow_first=0.4", stream=True), calls=1, endless=faulty("slow_first=60", stream=True)
    ),
    "a stream after its content": Phase(
        faulty("drip=0.03", stream=True, max_tokens=12), calls=1, endless=faulty("stall=2", stream=True)
    ),
}
IDLE = ("a connection that was used", "a connection that never was")


async def begin(lane: Lane, stub: Stub, stack: AsyncExitStack, *, endless: bool) -> dict[str, RawClient]:
    """A client in each phase."""
    clients: dict[str, RawClient] = {}
    for name, phase in PHASES.items():
        client = clients[name] = await stack.enter_async_context(RawClient(lane.host, lane.port, timeout=10))
        await client.send((endless and phase.endless) or phase.first)
    for name in IDLE:
        clients[name] = await stack.enter_async_context(RawClient(lane.host, lane.port, timeout=10))
    used = clients[IDLE[0]]
    await used.send(chat())
    assert (await used.read_response()).status == 200
    calls = sum(phase.calls for phase in PHASES.values()) + 1
    await eventually(lambda: len(stub.calls) >= calls and lane.service.connections == len(clients))
    return clients


async def test_what_can_finish_finishes_whatever_its_phase_and_is_told_that_the_connection_ends() -> None:
    async with (
        Stub(StubConfig(words=12)) as stub,
        running(policy_of(stub.url, limits={"drain": "15s"})) as lane,
        AsyncExitStack() as stack,
    ):
        clients = await begin(lane, stub, stack, endless=False)
        stopping = asyncio.create_task(lane.service.stop())
        await asyncio.sleep(0.05)

        async def finish(name: str, phase: Phase) -> RawResponse:
            await clients[name].send(phase.rest)
            return await clients[name].read_response()

        answers = await asyncio.gather(*(finish(name, phase) for name, phase in PHASES.items()))
        for name in IDLE:
            assert await clients[name].wait_closed() == "fin", name
        await stopping
        for name, answer in zip(PHASES, answers, strict=True):
            assert answer.clean_end, name
            assert answer.status == (404 if "upload" in name else 200), name
            if PHASES[name].rest:
                assert answer.head.get(b"connection") == b"close", name
        assert {record.failure for record in lane.records} == {None, "bad_request"}
        assert len(lane.records) == len(PHASES) + 1


async def test_what_cannot_finish_ends_visibly_within_the_bound_whatever_its_phase() -> None:
    async with (
        Stub(StubConfig(words=12)) as stub,
        running(policy_of(stub.url, limits={"drain": "300ms"})) as lane,
        AsyncExitStack() as stack,
    ):
        clients = await begin(lane, stub, stack, endless=True)
        started = asyncio.get_running_loop().time()
        await lane.service.stop()
        assert asyncio.get_running_loop().time() - started < 3.0
        for name in IDLE:
            assert await clients[name].wait_closed() == "fin", name
        assert await clients["half a head"].wait_closed() in ("fin", "rst")  # it was no request yet
        for name in PHASES:
            if name == "half a head":
                continue
            answer = await clients[name].read_response()
            if name == "a stream after its content":
                assert (answer.status, answer.clean_end) == (200, False), name
                assert b'"code":"shutdown"' in answer.pieces[-1].data
            else:
                assert (answer.status, answer.clean_end) == (503, True), name
                assert b'"code":"shutdown"' in answer.body, name
                assert answer.head.get(b"connection") == b"close", name
        # One record each, and of the connection that was used.
        assert sorted(str(record.failure) for record in lane.records) == ["None"] + ["shutdown"] * (len(PHASES) - 1)
        assert lane.service.connections == lane.service.exchange.in_flight == 0


async def test_answer_that_is_written_is_read_to_its_end_within_the_bound_and_cut_after_it() -> None:
    """Two clients that take nothing when the drain begins; one of them goes on."""
    size = 12_000_000
    body = b'{"choices":[{"message":{"content":"' + b"x" * size + b'"}}]}'
    async with (
        RawUpstream([Read(), Send(response(body))]) as up,
        running(policy_of(up.url, limits={"drain": "1s"})) as lane,
        RawClient(lane.host, lane.port, receive_buffer=4096, timeout=10) as stopped,
        RawClient(lane.host, lane.port, receive_buffer=1 << 20, timeout=10) as going,
    ):
        for client in (stopped, going):
            await client.send(chat())
        await eventually(lambda: len(up.requests) == 2 and lane.service.exchange.in_flight == 2)
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(lane.service.stop())
        answer = await going.read_response()
        assert (answer.clean_end, len(answer.body)) == (True, len(body))
        await stopping
        assert not (await stopped.read_response()).clean_end
        assert sorted(str(record.failure) for record in lane.records) == ["None", "shutdown"]

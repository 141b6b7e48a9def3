"""ACCEPTANCE 23: a client that leaves ends the upstream's work at once, and is nobody's error."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from proxy.words import Failure
from tests.integration.streaming import (
    CLEAN,
    MORE,
    ROLE,
    SOUND,
    STREAM_HEAD,
    TEXT,
    Firehose,
    Split,
    chat,
    metric,
    settled,
    split,
    stream_then,
)
from tests.support.lane import BASELINE_USER, FINETUNED, eventually, policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import Action, Pause, Read, Send, Stall, chunk, head, response

SECOND = 1.0  # within which the upstream's connection closes

Leave = Callable[[RawClient], Awaitable[None]]


async def fin(client: RawClient) -> None:
    await client.close()


async def half_close(client: RawClient) -> None:
    client.half_close()


async def rst(client: RawClient) -> None:
    client.reset()


LEAVES = pytest.mark.parametrize("leave", [fin, half_close, rst])
ON_ONE_LOOP = pytest.mark.asyncio(loop_factories=["uvloop"])  # how the end is told is not what matters

JSON = response(json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode())
LONG_JSON = response(json.dumps({"choices": [{"message": {"content": "x" * 3_000_000}}]}).encode())

FLOW: list[Action] = [Send(chunk(TEXT)), Pause(0.002)]

# stream asked for, script, what the client gets to see before it leaves, whether tokens were seen
PHASES: dict[str, tuple[bool, list[Action], bytes, bool]] = {
    "stream_before_headers": (True, [Read(), Stall()], b"", False),
    "stream_before_content": (True, stream_then(ROLE, ending=Stall()), b"", False),
    "stream_in_a_silence": (True, stream_then(ROLE, TEXT, MORE, ending=Stall()), b"more", True),
    "stream_in_full_flow": (
        True,
        [
            Read(),
            Send(head(200, STREAM_HEAD)),
            *FLOW * 5000,
        ],
        b"candidate",
        True,
    ),
    "json_before_headers": (False, [Read(), Stall()], b"", False),
    "json_in_its_body": (False, [Read(), Send(JSON[:-10]), Stall()], b"", False),
    "json_being_relayed": (False, [Read(), Send(LONG_JSON[:-10]), Stall()], b"xxx", False),
}


async def assert_upstream_closes(at: Split, left: float) -> None:
    connection = at.candidate.connections[0]
    await eventually(lambda: connection.closed_at is not None)
    assert connection.closed_at is not None
    assert connection.closed_at - left < SECOND


async def assert_nobody_is_blamed(at: Split) -> None:
    await at.lane.idle()
    assert await metric(at.lane, "splitlane_in_flight") == 0
    assert await metric(at.lane, "splitlane_buffered_bytes") == 0
    assert await metric(at.lane, "model_errors_total") == 0
    assert await metric(at.lane, "model_fallbacks_total") == 0
    assert await metric(at.lane, "model_requests_total", outcome="client_gone") == 1
    assert at.baseline.requests == []


@LEAVES
@pytest.mark.parametrize("phase", PHASES)
async def test_client_that_leaves_closes_the_upstream_and_is_no_error(phase: str, leave: Leave) -> None:
    stream, script, seen, counted = PHASES[phase]
    async with split(script) as at, at.client() as client:
        await client.send(chat(stream=stream))
        await eventually(lambda: len(at.candidate.requests) == 1)
        got = b""
        while seen not in got:
            got += await client.read()
        await asyncio.sleep(0.04)  # what came before the silence has arrived
        assert at.candidate.connections[0].closed_at is None
        left = time.time()
        await leave(client)
        await assert_upstream_closes(at, left)
        record = await at.lane.record()
        await assert_nobody_is_blamed(at)
    assert (record.status, record.failure, record.fallback) == (499, Failure.CLIENT_GONE, None)
    if counted:
        assert record.usage is not None
        assert record.usage.completion > 0
        assert record.usage.estimated
        assert record.served == FINETUNED
        assert record.ttft >= 0
    else:
        assert record.usage is None
    assert len(at.lane.records) == 1


@LEAVES
async def test_client_that_leaves_in_its_own_body_reaches_no_upstream(leave: Leave) -> None:
    async with split(SOUND) as at, at.client() as client:
        await client.send(chat()[:-10])
        await asyncio.sleep(0.05)
        await leave(client)
        record = await at.lane.record()
        await assert_nobody_is_blamed(at)
    assert (record.status, record.failure, record.attempts) == (499, Failure.CLIENT_GONE, ())
    assert at.candidate.requests == []


@ON_ONE_LOOP
@LEAVES
async def test_client_that_leaves_between_two_attempts_stops_the_second(leave: Leave) -> None:
    busy = response(b'{"error":{"message":"busy"}}', 429, [("retry-after", "0.2")])
    async with split([], [Read(), Send(busy)]) as at, at.client() as client:
        await client.send(chat(BASELINE_USER))
        await eventually(lambda: len(at.baseline.requests) == 1)
        await asyncio.sleep(0.05)
        await leave(client)
        record = await at.lane.record()
        await asyncio.sleep(0.3)
    assert len(at.baseline.requests) == 1
    assert (record.status, record.failure) == (499, Failure.CLIENT_GONE)


@ON_ONE_LOOP
@LEAVES
async def test_client_that_leaves_while_it_waits_for_a_connection_gives_up_its_place(leave: Leave) -> None:
    pool = {"max_connections": 1, "wait": "5s"}
    script = stream_then(ROLE, TEXT, ending=[Pause(0.25), CLEAN])
    async with split(script, pool=pool) as at, at.client() as first, at.client() as second:
        await first.send(chat())
        await eventually(lambda: len(at.candidate.requests) == 1)
        await second.send(chat())
        await asyncio.sleep(0.05)
        await leave(second)
        record = await at.lane.record()
        assert (record.status, record.failure) == (499, Failure.CLIENT_GONE)
        assert (await first.read_response()).clean_end
        assert (await at.ask()).clean_end
    assert len(at.candidate.requests) == 2


@ON_ONE_LOOP
@LEAVES
async def test_client_that_leaves_while_the_baseline_works_closes_the_baseline(leave: Leave) -> None:
    async with split([Read(), Send(response(b"", 500))], [Read(), Stall()]) as at, at.client() as client:
        await client.send(chat())
        await eventually(lambda: len(at.baseline.requests) == 1)
        left = time.time()
        await leave(client)
        baseline = at.baseline.connections[0]
        await eventually(lambda: baseline.closed_at is not None)
        record = await at.lane.record()
        await at.lane.idle()
    assert baseline.closed_at is not None
    assert baseline.closed_at - left < SECOND
    assert (record.status, record.failure, record.fallback) == (
        499,
        Failure.CLIENT_GONE,
        Failure.SERVER_ERROR,
    )


@LEAVES
async def test_client_that_leaves_with_bytes_unread_closes_the_upstream(leave: Leave) -> None:
    async with (
        Firehose(10_000) as hose,
        running(policy_of(hose.url)) as lane,
        RawClient(lane.host, lane.port, receive_buffer=16_384) as client,
    ):
        await client.send(chat())
        await client.read_head()
        await settled(lambda: hose.sent)  # everything between is full
        await leave(client)
        async with asyncio.timeout(SECOND):
            await hose.closed.wait()
        record = await lane.record()
        await lane.idle()
    assert (record.status, record.failure) == (499, Failure.CLIENT_GONE)
    assert record.usage is not None


@ON_ONE_LOOP
async def test_usage_told_before_the_client_leaves_is_recorded() -> None:
    told = TEXT.replace(b"}\n\n", b',"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n')
    async with split(stream_then(ROLE, told, ending=Stall())) as at, at.client() as client:
        await client.send(chat())
        while b"usage" not in await client.read():
            pass
        await client.close()
        record = await at.lane.record()
    assert record.usage is not None
    assert (record.usage.prompt, record.usage.completion, record.usage.estimated) == (7, 5, False)


@ON_ONE_LOOP
async def test_stream_that_a_client_leaves_was_the_upstreams_time_and_not_ours() -> None:
    """DESIGN §3.7: overhead is the total minus the time blocked on the upstream."""
    async with split(stream_then(ROLE, TEXT, ending=Stall())) as at, at.client() as client:
        await client.send(chat())
        while b"candidate" not in await client.read():
            pass
        await asyncio.sleep(0.2)
        await client.close()
        record = await at.lane.record()
    assert record.failure is Failure.CLIENT_GONE
    assert record.attempts[0].seconds >= 0.19
    assert record.blocked >= 0.19


@ON_ONE_LOOP
async def test_clients_that_leave_do_not_open_the_breaker() -> None:
    slow: list[Action] = [Read(), Pause(0.1), *SOUND[1:]]
    async with split(slow, fallback={"breaker": {"failures": 2}}) as at:
        for number in range(1, 5):
            async with at.client() as client:
                await client.send(chat())
                await eventually(lambda count=number: len(at.candidate.requests) == count)  # type: ignore[misc]
            await at.lane.record(number)
        assert (await at.ask()).status == 200
        record = await at.lane.record(5)
    assert (record.served, record.fallback) == (FINETUNED, None)

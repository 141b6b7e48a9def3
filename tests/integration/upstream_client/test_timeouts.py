"""Every time-out of DESIGN §3.3, each alone, with a reason of its own.

ACCEPTANCE 10, 15 and point 6 of the issue.  The one under test is short, all others are long.
"""

import asyncio
import json
from collections.abc import Mapping

import pytest

from proxy.stub import Stub
from tests.support.deaf import deaf_listener
from tests.support.lane import BASELINE, eventually, running
from tests.support.raw_upstream import Action, Pause, RawUpstream, Read, Send, Stall, chunk
from tests.support.rescue import ANSWER, BODIES, BODY, STREAM_BODY, apart, ask, assert_rescued, calls_by_model

LONG = {
    "connect": "20s",
    "first_byte": "20s",
    "first_content": "20s",
    "idle": "20s",
    "total": "20s",
    "stream": "20s",
}
SHORT = 0.2
# How late a busy machine may be.
SLACK = 0.7

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
ROLE = chunk(b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n')
WORD = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
PING = chunk(b": ping\n\n")


def only(name: str) -> Mapping[str, str]:
    """Time-outs of which one is short."""
    return {**LONG, name: f"{int(SHORT * 1000)}ms"}


async def rescue_time(candidate_url: str, timeouts: Mapping[str, str], body: bytes, reason: str) -> float:
    """Ask once, be served by the baseline for that reason; return how many seconds it took."""
    loop = asyncio.get_running_loop()
    async with Stub() as stub:
        async with running(apart(candidate_url, stub.url, timeouts=timeouts)) as lane:
            started = loop.time()
            answer = await ask(lane, body)
            took = loop.time() - started
            record = await lane.record()
        assert calls_by_model(stub) == {BASELINE: 1}
    assert_rescued(answer, reason)
    assert [attempt.failure for attempt in record.attempts] == [reason, None]
    assert record.blocked >= SHORT * 0.95
    return took


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_connect_time_out_where_nobody_accepts(body: bytes) -> None:
    with deaf_listener() as port:
        took = await rescue_time(f"http://127.0.0.1:{port}", only("connect"), body, "connect_timeout")
    assert SHORT * 0.95 <= took < SHORT + SLACK


async def test_connect_time_out_covers_the_tls_handshake() -> None:
    async with RawUpstream([Read(), Stall()]) as mute:
        url = mute.url.replace("http:", "https:")
        took = await rescue_time(url, only("connect"), BODY, "connect_timeout")
        await eventually(lambda: mute.connections[0].closed_at is not None)
    assert SHORT * 0.95 <= took < SHORT + SLACK


async def rescue_from(script: list[Action], timeouts: Mapping[str, str], body: bytes, reason: str) -> float:
    """`rescue_time` from a scripted candidate, whose connection must be closed in the end."""
    async with RawUpstream(script) as candidate:
        took = await rescue_time(candidate.url, timeouts, body, reason)
        await eventually(lambda: candidate.connections[0].closed_at is not None)
        assert len(candidate.requests) == 1
    return took


DRIPPING_HEAD: list[Action] = [Read(), Send(b"HTTP/1.1 200 OK\r\n" + b"X-Odd: 1\r\n" * 200, 1, 0.02), Stall()]
HINTS: list[Action] = [Read(), Send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, 28, 0.05), Stall()]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param([Read(), Stall()], id="silence"),
        pytest.param(DRIPPING_HEAD, id="dripping-head"),
        pytest.param(HINTS, id="hints-only"),
    ],
)
async def test_first_byte_time_out_until_the_head_is_whole(script: list[Action], body: bytes) -> None:
    took = await rescue_from(script, only("first_byte"), body, "first_byte_timeout")
    assert SHORT * 0.95 <= took < SHORT + SLACK


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([Read(), Send(STREAM_HEAD), Stall()], id="head-only"),
        pytest.param([Read(), Send(STREAM_HEAD + ROLE), Stall()], id="role-only"),
        pytest.param([Read(), Send(STREAM_HEAD + PING * 200, len(PING), 0.02), Stall()], id="pings"),
    ],
)
async def test_first_content_time_out_whatever_else_comes(script: list[Action]) -> None:
    took = await rescue_from(script, only("first_content"), STREAM_BODY, "first_content_timeout")
    assert SHORT * 0.95 <= took < SHORT + SLACK


@pytest.mark.parametrize("sent", [0, 20], ids=["no-body", "half-a-body"])
async def test_idle_time_out_of_a_json_answer(sent: int) -> None:
    script: list[Action] = [Read(), Send(JSON_HEAD + ANSWER[:sent]), Stall()]
    took = await rescue_from(script, only("idle"), BODY, "idle_timeout")
    assert SHORT * 0.95 <= took < SHORT + SLACK


async def test_idle_time_out_starts_again_with_every_byte() -> None:
    """Slow is not idle: nobody is rescued from an answer that comes bit by bit."""
    pieces = 8
    size = len(ANSWER) // pieces + 1
    script: list[Action] = [Read(), Send(JSON_HEAD), Send(ANSWER, size, SHORT / 2)]
    async with Stub() as stub, RawUpstream(script) as candidate:
        async with running(apart(candidate.url, stub.url, timeouts=only("idle"))) as lane:
            answer = await ask(lane)
            record = await lane.record()
        assert stub.calls == []
    assert answer.body == ANSWER
    assert record.latency > 2 * SHORT


async def test_idle_time_out_after_content_is_visible() -> None:
    """After the commit there is no rescue: an error event, and no clean end."""
    async with Stub() as stub, RawUpstream([Read(), Send(STREAM_HEAD + ROLE + WORD), Stall()]) as candidate:
        async with running(apart(candidate.url, stub.url, timeouts=only("idle"))) as lane:
            answer = await ask(lane, STREAM_BODY)
            record = await lane.record()
            await eventually(lambda: candidate.connections[0].closed_at is not None)
        assert stub.calls == []
    assert not answer.clean_end
    last = answer.body.rstrip(b"\n").rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "idle_timeout"
    assert (record.status, record.failure) == (200, "idle_timeout")


async def test_stream_time_out_ends_a_drip() -> None:
    """Its reason is `total_timeout`: the vocabulary has one word for both whole-request limits."""
    script: list[Action] = [Read(), Send(STREAM_HEAD + ROLE + WORD * 500, len(WORD), 0.02), Stall()]
    async with Stub() as stub, RawUpstream(script) as candidate:
        async with running(apart(candidate.url, stub.url, timeouts=only("stream"))) as lane:
            started = asyncio.get_running_loop().time()
            answer = await ask(lane, STREAM_BODY)
            took = asyncio.get_running_loop().time() - started
            record = await lane.record()
            await eventually(lambda: candidate.connections[0].closed_at is not None)
        assert stub.calls == []
    assert SHORT * 0.95 <= took < SHORT + SLACK
    assert not answer.clean_end
    assert b'"code":"total_timeout"' in answer.body
    assert record.failure == "total_timeout"


@pytest.mark.parametrize(
    ("script", "body"),
    [
        pytest.param([Read(), Stall()], BODY, id="silence"),
        pytest.param([Read(), Send(JSON_HEAD), Send(ANSWER, 1, 0.05)], BODY, id="dripping-json"),
        pytest.param([Read(), Send(STREAM_HEAD + PING * 200, len(PING), 0.02), Stall()], STREAM_BODY, id="pings"),
    ],
)
async def test_total_time_out_of_one_attempt_is_served_by_baseline(script: list[Action], body: bytes) -> None:
    """The candidate's own `total` is short; the baseline's leaves time for the rescue."""
    took = await rescue_from(script, only("total"), body, "total_timeout")
    assert SHORT * 0.95 <= took < SHORT + SLACK


async def test_slow_answers_within_every_limit_are_answers() -> None:
    limits = {**LONG, "first_byte": "1s", "first_content": "2s", "idle": "1s"}
    script: list[Action] = [
        Read(),
        Pause(0.2),
        Send(STREAM_HEAD),
        Pause(0.2),
        Send(ROLE),
        Pause(0.2),
        Send(WORD),
    ]
    ending: list[Action] = [Pause(0.2), Send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")]
    async with Stub() as stub, RawUpstream([*script, *ending]) as candidate:
        async with running(apart(candidate.url, stub.url, timeouts=limits)) as lane:
            answer = await ask(lane, STREAM_BODY)
        assert stub.calls == []
    assert (answer.status, answer.clean_end) == (200, True)

"""ACCEPTANCE 25: `buffer_stream: true` holds a stream to its end, so that any break is rescued."""

import pytest

from proxy.words import Failure, Usage
from tests.integration.streaming import (
    ANSWER,
    BASELINE_ANSWER,
    CLEAN,
    DONE,
    MORE,
    ROLE,
    TEXT,
    chat,
    delta,
    error_of,
    event,
    split,
    stream_then,
    usage,
)
from tests.support.lane import BASELINE, FINETUNED
from tests.support.raw_upstream import Action, Close, Pause, Reset, Send, Stall, chunk

BUFFERED = {"buffer_stream": True}
ERROR = event({"error": {"message": "candidate overloaded"}})

BROKEN: dict[str, tuple[list[Action], Failure]] = {
    "fin": (stream_then(ROLE, TEXT, MORE, ending=Close()), Failure.STREAM_TRUNCATED),
    "reset": (stream_then(ROLE, TEXT, MORE, ending=Reset()), Failure.STREAM_TRUNCATED),
    "fin_in_an_event": (stream_then(ROLE, TEXT, MORE[:-1], ending=Close()), Failure.STREAM_TRUNCATED),
    "silence": (stream_then(ROLE, TEXT, MORE, ending=Stall()), Failure.IDLE_TIMEOUT),
    "silence_after_finish": (stream_then(*ANSWER, ending=Stall()), Failure.IDLE_TIMEOUT),
    "error_event": (stream_then(ROLE, TEXT, ERROR, ending=CLEAN), Failure.STREAM_ERROR),
    "late_error_event": (
        stream_then(ROLE, TEXT, ending=[Send(chunk(ERROR)), CLEAN]),
        Failure.STREAM_ERROR,
    ),
    "no_content": (stream_then(ROLE, DONE, ending=CLEAN), Failure.EMPTY),
}


@pytest.mark.parametrize(("script", "reason"), BROKEN.values(), ids=BROKEN.keys())
async def test_stream_that_breaks_after_content_is_rescued(script: list[Action], reason: Failure) -> None:
    async with split(script, timeouts={"idle": "200ms"}, fallback=BUFFERED) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.status, answer.body, answer.clean_end) == (200, b"".join(BASELINE_ANSWER), True)
    assert b"candidate" not in repr(answer.headers).encode()
    assert answer.head.get(b"content-type") == b"text/event-stream"
    assert (record.status, record.failure, record.fallback) == (200, None, reason)
    assert record.served == BASELINE


async def test_silence_is_met_by_the_idle_limit_however_long_content_might_have_taken() -> None:
    """The head comes first, and content some time later: what is waited for has changed meanwhile."""
    script = stream_then(ROLE, ending=[Pause(0.1), Send(chunk(TEXT)), Stall()])
    timeouts = {"first_content": "30s", "idle": "200ms"}
    async with split(script, timeouts=timeouts, fallback=BUFFERED) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.body, answer.clean_end) == (b"".join(BASELINE_ANSWER), True)
    assert record.fallback is Failure.IDLE_TIMEOUT


async def test_sound_stream_arrives_whole_and_not_before_its_end() -> None:
    body = [ROLE, *(delta(content=f"word{number} ") for number in range(500)), *ANSWER[-1:], DONE]
    script = stream_then(*body[:-1], ending=[Pause(0.4), Send(chunk(DONE)), CLEAN])
    async with split(script, fallback=BUFFERED) as at, at.client() as client:
        await client.send(chat())
        assert await client.read_until_idle(0.25) == b""
        answer = await client.read_response()
        record = await at.lane.record()
    assert (answer.status, answer.body, answer.clean_end) == (200, b"".join(body), True)
    assert (record.failure, record.fallback, record.served) == (None, None, FINETUNED)
    assert record.ttft >= 0.25  # what it costs: the first content waits for the last


async def test_usage_is_counted_and_taken_out_of_a_held_stream() -> None:
    async with split(stream_then(*ANSWER, usage(7, 2), DONE, ending=CLEAN), fallback=BUFFERED) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert answer.body == b"".join(ANSWER) + DONE
    assert record.usage == Usage(7, 2)


async def test_both_streams_break_and_the_client_gets_one_error_answer() -> None:
    cut = stream_then(ROLE, TEXT, ending=Close())
    async with split(cut, cut, fallback=BUFFERED) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.status, answer.clean_end) == (502, True)
    assert error_of(answer.body)["code"] == "stream_truncated"
    assert (record.failure, record.fallback) == (Failure.STREAM_TRUNCATED, Failure.STREAM_TRUNCATED)


async def test_stream_longer_than_may_be_held_is_relayed_and_its_break_is_visible() -> None:
    block = delta(content="candidate" * 2000)
    script = stream_then(ROLE, *[block] * 8, ending=[Send(chunk(MORE)), Pause(0.03), Close()])
    limits = {"max_body": "100KiB"}
    async with split(script, fallback=BUFFERED, limits=limits) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert answer.body.startswith(ROLE + block)
    assert answer.body.count(b'data: {"error"') == 1
    assert not answer.clean_end
    assert (record.failure, record.fallback) == (Failure.STREAM_TRUNCATED, None)
    assert at.baseline.requests == []

"""ACCEPTANCE 20: what breaks after content is visible: an error event, and no clean end."""

import time

import pytest

from proxy.words import Failure
from tests.integration.streaming import (
    ANSWER,
    ARRIVED,
    CLEAN,
    DONE,
    MORE,
    ROLE,
    STREAM_HEAD,
    TEXT,
    chat,
    error_of,
    event,
    events_of,
    metric,
    split,
    stream_then,
)
from tests.support.lane import FINETUNED, eventually
from tests.support.raw_upstream import Action, Close, Pause, Read, Reset, Send, Stall, chunk, head

ENDINGS = [pytest.param(Close(), id="fin"), pytest.param(Reset(), id="reset")]
HEADS = {
    "chunked": STREAM_HEAD,
    "announced_length": [("content-type", "text/event-stream"), ("content-length", "100000")],
    "until_the_end": [("content-type", "text/event-stream; charset=utf-8"), ("connection", "close")],
}


@pytest.mark.parametrize("framing", HEADS)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_cut_after_content_ends_in_an_error_event(framing: str, ending: Action) -> None:
    wrap = chunk if framing == "chunked" else bytes
    script = [Read(), Send(head(200, HEADS[framing]) + wrap(ROLE) + wrap(TEXT)), *ARRIVED, ending]
    async with split(script) as at:
        answer = await at.ask()
        record = await at.lane.record()
        errors = await metric(at.lane, "model_errors_total", reason="stream_truncated", model=FINETUNED)
    assert (answer.status, answer.clean_end) == (200, False)
    assert events_of(answer.body)[:-1] == [ROLE, TEXT]
    error = error_of(events_of(answer.body)[-1])
    assert (error["code"], error["param"]) == ("stream_truncated", None)
    assert (record.status, record.failure, record.fallback) == (200, Failure.STREAM_TRUNCATED, None)
    assert record.usage is not None
    assert record.usage.estimated
    assert errors == 1
    assert at.baseline.requests == []


async def test_silence_after_content_ends_in_an_error_event_at_the_idle_limit() -> None:
    script = stream_then(ROLE, TEXT, MORE, ending=Stall())
    async with split(script, timeouts={"idle": "300ms"}) as at, at.client() as client:
        started = time.time()
        await client.send(chat())
        answer = await client.read_response()
        record = await at.lane.record()
        await eventually(lambda: at.candidate.connections[0].closed_at is not None)
    assert events_of(answer.body)[:-1] == [ROLE, TEXT, MORE]
    assert error_of(events_of(answer.body)[-1])["code"] == "idle_timeout"
    assert not answer.clean_end
    assert 0.25 < answer.pieces[-1].time - started < 4
    assert (record.status, record.failure, record.fallback) == (200, Failure.IDLE_TIMEOUT, None)
    assert at.baseline.requests == []


@pytest.mark.parametrize("partial", [TEXT[:9], TEXT[:-1], b"data: " + b"x" * 100_000, b": comm"])
async def test_cut_inside_an_event_leaves_the_error_event_readable(partial: bytes) -> None:
    async with split(stream_then(ROLE, TEXT, partial, ending=Close())) as at:
        answer = await at.ask()
    assert events_of(answer.body)[:2] == [ROLE, TEXT]
    assert error_of(events_of(answer.body)[-1])["code"] == "stream_truncated"
    assert not answer.clean_end


ERRORS = {
    "openai": event({"error": {"message": "overloaded", "type": "server_error", "code": "busy"}}),
    "mistral": event({"object": "error", "message": "broke", "type": "internal", "code": 500}),
    "named": b'event: error\ndata: {"error":{"message":"broke"}}\n\n',
    "with_choices": event(
        {"error": {"message": "x"}, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}
    ),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
async def test_error_event_after_content_passes_and_is_no_clean_end(error: bytes) -> None:
    async with split(stream_then(ROLE, TEXT, ending=[Send(chunk(error)), CLEAN])) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.status, answer.body) == (200, ROLE + TEXT + error)
    assert not answer.clean_end
    assert (record.status, record.failure, record.fallback) == (200, Failure.STREAM_ERROR, None)
    assert at.baseline.requests == []


@pytest.mark.parametrize("ending", [*ENDINGS, pytest.param(Stall(), id="silence")])
async def test_error_event_stays_the_reason_however_the_stream_goes_on(ending: Action) -> None:
    error = ERRORS["openai"]
    script = stream_then(ROLE, TEXT, ending=[Send(chunk(error)), *ARRIVED, ending])
    async with split(script, timeouts={"idle": "200ms"}) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert answer.body == ROLE + TEXT + error
    assert not answer.clean_end
    assert record.failure is Failure.STREAM_ERROR


async def test_malformed_framing_after_content_is_visible() -> None:
    async with split([*stream_then(ROLE, TEXT, ending=Send(b"no chunk size\r\n")), Stall()]) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert events_of(answer.body)[:-1] == [ROLE, TEXT]
    assert error_of(events_of(answer.body)[-1])["code"]
    assert not answer.clean_end
    assert record.failure is not None


async def test_connection_is_closed_after_a_broken_stream_and_the_next_call_is_served() -> None:
    broken = stream_then(ROLE, TEXT, ending=Close())
    sound = stream_then(*ANSWER, DONE, ending=CLEAN)
    async with split(lambda number: broken if number == 1 else sound) as at:
        async with at.client() as client:
            await client.send(chat())
            assert not (await client.read_response()).clean_end
            assert await client.wait_closed() == "fin"
        assert (await at.ask()).body == b"".join(ANSWER) + DONE


@pytest.mark.parametrize("ending", ENDINGS)
async def test_http_1_0_client_sees_the_break(ending: Action) -> None:
    async with split(stream_then(ROLE, TEXT, ending=ending)) as at:
        answer = await at.ask(chat(version="1.0"))
        record = await at.lane.record()
    assert answer.body.startswith(ROLE + TEXT)
    # Without framing only these two tell a short body: an error event, and a reset instead of a FIN.
    assert error_of(events_of(answer.body)[-1])["code"] == "stream_truncated"
    assert not answer.clean_end
    assert record.failure is Failure.STREAM_TRUNCATED


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_long_json_cut_while_it_is_relayed_is_no_clean_end(ending: Action, version: str) -> None:
    opening = head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked")])
    beginning = b'{"choices":[{"message":{"content":"' + b"x" * 2_000_000
    async with split([Read(), Send(opening + chunk(beginning)), *ARRIVED, ending]) as at:
        answer = await at.ask(chat(stream=False, version=version))
        record = await at.lane.record()
    assert (answer.status, answer.clean_end) == (200, False)
    assert beginning.startswith(answer.body)
    assert record.status == 200
    assert record.failure not in (None, Failure.CLIENT_GONE)  # it is the upstream that broke off
    assert at.baseline.requests == []


async def test_attempt_that_breaks_after_the_commit_is_recorded_as_broken() -> None:
    """DESIGN §3.8: failure per attempt, and an attempt lasts as long as its stream."""
    async with split(stream_then(ROLE, TEXT, ending=[Pause(0.2), Close()])) as at:
        await at.ask()
        record = await at.lane.record()
    assert [each.failure for each in record.attempts] == [Failure.STREAM_TRUNCATED]
    assert record.attempts[0].seconds >= 0.15

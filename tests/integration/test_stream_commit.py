"""ACCEPTANCE 19, DESIGN §1: before the first content a broken stream is rescued, after it never."""

import pytest

from proxy.words import Failure, Variant
from tests.integration.streaming import (
    ANSWER,
    ARRIVED,
    BASELINE_ANSWER,
    CLEAN,
    COMMENT,
    DONE,
    ROLE,
    TEXT,
    chat,
    delta,
    error_of,
    event,
    events_of,
    split,
    stream_then,
    usage,
)
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED
from tests.support.raw_client import RawResponse
from tests.support.raw_upstream import Action, Close, Pause, Read, Reset, Send, Stall, chunk, event_stream

ERROR = event({"error": {"message": "candidate overloaded", "type": "server_error", "code": None}})
MISTRAL_ERROR = event({"object": "error", "message": "candidate broke", "type": "internal", "code": 500})
# The openai SDK raises on any event with an `error`, whatever else is in it; OpenRouter sends such.
ERROR_WITH_CHOICES = event(
    {"error": {"message": "candidate"}, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}
)

BEFORE_CONTENT = {
    "error": ([ERROR], CLEAN, Failure.STREAM_ERROR),
    "error_after_role": ([ROLE, ERROR], CLEAN, Failure.STREAM_ERROR),
    "error_after_comment": ([COMMENT, ERROR, DONE], CLEAN, Failure.STREAM_ERROR),
    "error_of_mistral": ([ROLE, MISTRAL_ERROR], CLEAN, Failure.STREAM_ERROR),
    "error_with_choices": ([ROLE, ERROR_WITH_CHOICES], CLEAN, Failure.STREAM_ERROR),
    "error_then_silence": ([ERROR], Stall(), Failure.STREAM_ERROR),
    "error_then_fin": ([ERROR], Close(), Failure.STREAM_ERROR),
    "end_at_once": ([], CLEAN, Failure.EMPTY),
    "end_with_done": ([DONE], CLEAN, Failure.EMPTY),
    "end_after_role_with_done": ([ROLE, DONE], CLEAN, Failure.EMPTY),
    "end_after_role_without_done": ([ROLE], CLEAN, Failure.EMPTY),
    "fin_at_once": ([], Close(), Failure.STREAM_TRUNCATED),
    "fin_after_role": ([ROLE], Close(), Failure.STREAM_TRUNCATED),
    "reset_at_once": ([], Reset(), Failure.STREAM_TRUNCATED),
    "reset_after_role": ([ROLE], Reset(), Failure.STREAM_TRUNCATED),
    "silence_after_role": ([ROLE], Stall(), Failure.FIRST_CONTENT_TIMEOUT),
}

CONTENT = {
    "text": delta(content="candidate"),
    "white_space": delta(content=" "),
    "text_in_parts": delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
    "reasoning_content": delta(reasoning_content="candidate"),
    "reasoning": delta(reasoning="candidate"),
    "tool_call": delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]),
    "refusal": delta(refusal="I will not"),
    "finish_reason": delta("stop"),
    "filtered": delta("content_filter"),
}

NO_CONTENT = {
    "role_only": delta(role="assistant"),
    "role_with_empty_text": delta(role="assistant", content=""),
    "empty_delta": delta(),
    "nulls": delta(content=None, refusal=None, tool_calls=None, reasoning_content=None),
    "empty_tool_calls": delta(tool_calls=[]),
    "comment": COMMENT,
    "ping": b"event: ping\ndata: {}\n\n",
    "empty_data": b"data:\n\n",
    "retry": b"retry: 3000\n\n",
    "prompt_filter_results": event({"id": "candidate", "choices": [], "prompt_filter_results": []}),
    "usage": usage(1, 0),
}

ENDINGS = [pytest.param(Close(), id="fin"), pytest.param(Reset(), id="reset")]
BASELINE_BODY = b"".join(BASELINE_ANSWER)


def assert_from_baseline_alone(answer: RawResponse) -> None:
    assert (answer.status, answer.body, answer.clean_end) == (200, BASELINE_BODY, True)
    assert b"candidate" not in repr(answer.headers).encode()
    assert answer.head.get(b"x-splitlane-served") == BASELINE.encode()


@pytest.mark.parametrize(("events", "ending", "reason"), BEFORE_CONTENT.values(), ids=BEFORE_CONTENT.keys())
async def test_failure_before_content_is_served_by_baseline(
    events: list[bytes], ending: Action, reason: Failure
) -> None:
    async with split(stream_then(*events, ending=ending), timeouts={"first_content": "200ms"}) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert_from_baseline_alone(answer)
    assert answer.head.get(b"x-splitlane-fallback") == reason.encode()
    assert (len(at.candidate.requests), len(at.baseline.requests)) == (1, 1)
    assert (record.status, record.failure, record.fallback) == (200, None, reason)
    assert (record.decision.variant, record.served) == (Variant.FINETUNED, BASELINE)
    assert [each.failure for each in record.attempts] == [reason, None]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", CONTENT.values(), ids=CONTENT.keys())
async def test_failure_one_byte_before_content_is_complete_is_rescued(content: bytes, ending: Action) -> None:
    async with split(stream_then(ROLE, content[:-1], ending=ending)) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert_from_baseline_alone(answer)
    assert (record.failure, record.fallback) == (None, Failure.STREAM_TRUNCATED)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", CONTENT.values(), ids=CONTENT.keys())
async def test_failure_one_byte_later_is_visible(content: bytes, ending: Action) -> None:
    async with split(stream_then(ROLE, content, ending=ending)) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.status, answer.clean_end) == (200, False)
    assert events_of(answer.body)[:-1] == [ROLE, content]
    assert error_of(events_of(answer.body)[-1])["code"] == "stream_truncated"
    assert at.baseline.requests == []
    assert (record.status, record.failure, record.fallback) == (200, Failure.STREAM_TRUNCATED, None)
    assert record.served == FINETUNED


@pytest.mark.parametrize("held", NO_CONTENT.values(), ids=NO_CONTENT.keys())
async def test_event_without_content_commits_nothing(held: bytes) -> None:
    async with split(stream_then(ROLE, held, ending=Close())) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert_from_baseline_alone(answer)
    assert record.fallback is Failure.STREAM_TRUNCATED


async def test_nothing_is_sent_before_content_and_then_everything_held() -> None:
    held = [COMMENT, *(each for name, each in NO_CONTENT.items() if name != "usage")]
    script = [
        *stream_then(*held, ending=Pause(0.4)),
        Send(b"".join(map(chunk, ANSWER)) + chunk(DONE)),
        CLEAN,
    ]
    async with split(script) as at, at.client() as client:
        await client.send(chat())
        assert await client.read_until_idle(0.25) == b""
        answer = await client.read_response()
        record = await at.lane.record()
    assert answer.body == b"".join((*held, *ANSWER, DONE))
    assert answer.clean_end
    assert record.ttft >= 0.25


@pytest.mark.parametrize("pause", [0.0, 0.001])
@pytest.mark.parametrize("size", [1, 7])
async def test_fragments_change_nothing_about_the_commit_point(size: int, pause: float) -> None:
    cut = event_stream(ROLE, COMMENT, TEXT[:-1], end=False)
    async with split([Read(), Send(cut, size=size, pause=pause), *ARRIVED, Reset()]) as at:
        assert_from_baseline_alone(await at.ask())


async def test_both_break_before_content_and_the_client_gets_an_error() -> None:
    async with split(stream_then(ROLE, ending=Close()), stream_then(ROLE, ending=Reset())) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert answer.status == 502
    assert error_of(answer.body)["code"] == "stream_truncated"
    assert (record.status, record.failure) == (502, Failure.STREAM_TRUNCATED)
    assert (record.fallback, record.ttft) == (Failure.STREAM_TRUNCATED, -1)


async def test_baseline_with_nobody_behind_it_passes_its_error_event_on() -> None:
    own = event({"error": {"message": "no capacity", "type": "server_error", "param": None, "code": "busy"}})
    async with split([], stream_then(ROLE, own, ending=CLEAN)) as at:
        answer = await at.ask(chat(BASELINE_USER))
        record = await at.lane.record()
    assert (answer.status, answer.body, answer.clean_end) == (200, ROLE + own, False)
    assert record.failure is Failure.STREAM_ERROR

"""ACCEPTANCE 21: odd but sound streams pass as they are; the connections stay usable."""

import json

import pytest

from proxy.words import Failure, Usage
from tests.integration.streaming import (
    ANSWER,
    ARRIVED,
    BASELINE_ANSWER,
    CLEAN,
    COMMENT,
    DONE,
    FINISH,
    ROLE,
    TEXT,
    chat,
    delta,
    split,
    stream_then,
    usage,
)
from tests.support.raw_upstream import (
    Action,
    Close,
    Pause,
    Read,
    Reset,
    Send,
    chunk,
    event_stream,
    head,
    response,
)

ASKED = {"include_usage": True}
MALFORMED = {
    "cut_off": b'data: {"id":"x","choices":[{"index":0,"delta":{"con\n\n',
    "words": b"data: not json at all\n\n",
    "array": b"data: [1,2]\n\n",
    "null": b"data: null\n\n",
    "bad_utf8": b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n',
    "nan": b'data: {"choices":[{"delta":{"content":NaN}}]}\n\n',
    "choices_number": b'data: {"choices":5}\n\n',
    "choices_true": b'data: {"choices":true}\n\n',
    "choices_of_nulls": b'data: {"choices":[null]}\n\n',
    "delta_list": b'data: {"choices":[{"delta":[1]}]}\n\n',
    "usage_list": b'data: {"choices":[],"usage":[1]}\n\n',
    "usage_of_words": b'data: {"choices":[],"usage":{"prompt_tokens":"many","completion_tokens":null}}\n\n',
    "deep": b"data: " + b"[" * 100_000 + b"\n\n",
    "long_number": b'data: {"choices":[],"x":' + b"9" * 20_000 + b"}\n\n",
}


@pytest.mark.parametrize("odd", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_event_after_content_passes_unchanged(odd: bytes) -> None:
    events = (ROLE, TEXT, odd, FINISH, usage(7, 2), DONE)
    async with split(stream_then(*events, ending=CLEAN)) as at:
        answer = await at.ask(chat(stream_options=ASKED))
        record = await at.lane.record()
    assert (answer.status, answer.body, answer.clean_end) == (200, b"".join(events), True)
    assert (record.status, record.failure, record.usage) == (200, None, Usage(7, 2))


@pytest.mark.parametrize("odd", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_event_before_content_passes_unchanged(odd: bytes) -> None:
    events = (ROLE, odd, TEXT, FINISH, DONE)
    async with split(stream_then(*events, ending=CLEAN)) as at:
        answer = await at.ask(chat(stream_options=ASKED))
        record = await at.lane.record()
    assert (answer.status, answer.body, answer.clean_end) == (200, b"".join(events), True)
    assert (record.status, record.failure, record.fallback) == (200, None, None)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_malformed_event_passes_in_fragments(size: int) -> None:
    events = (ROLE, TEXT, MALFORMED["cut_off"], FINISH, DONE)
    async with split([Read(), Send(event_stream(*events), size=size, pause=0.0005)]) as at:
        answer = await at.ask()
    assert (answer.body, answer.clean_end) == (b"".join(events), True)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(ANSWER, id="no_done"),
        pytest.param((*ANSWER, DONE), id="done"),
        pytest.param((ROLE, TEXT), id="no_finish"),
        pytest.param((*ANSWER, DONE, COMMENT), id="comment_after_done"),
        pytest.param((*ANSWER, DONE[:-1]), id="no_last_line_end"),
        pytest.param((*ANSWER, b"data: {"), id="half_an_event"),
    ],
)
async def test_clean_end_of_a_chunked_stream_is_fine(events: tuple[bytes, ...]) -> None:
    async with split(stream_then(*events, ending=CLEAN)) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.body, answer.clean_end) == (b"".join(events), True)
    assert (record.failure, record.fallback) == (None, None)


async def test_stream_of_announced_length_is_fine() -> None:
    body = b"".join(ANSWER) + DONE
    fields = [("content-type", "text/event-stream"), ("content-length", str(len(body)))]
    async with split([Read(), Send(head(200, fields) + body)]) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.body, answer.clean_end, record.failure) == (body, True, None)


UNTIL_END = head(200, [("content-type", "text/event-stream")])
FINISHED = {
    "done": [*ANSWER, DONE],
    "finish_without_done": [*ANSWER],
    "usage_after_finish": [*ANSWER, usage(7, 2)],
    "comment_after_finish": [*ANSWER, COMMENT],
    "finish_with_usage": [ROLE, TEXT, FINISH.replace(b"}]}", b'}],"usage":{"prompt_tokens":7}}')],
}


@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["in_one_go", "one_by_one"])
@pytest.mark.parametrize("events", FINISHED.values(), ids=FINISHED.keys())
async def test_finished_stream_may_end_with_the_connection(events: list[bytes], pause: float) -> None:
    sends: list[Action] = []
    for each in events:
        sends += [Send(each), Pause(pause)]
    async with split([Read(), Send(UNTIL_END), *sends, Close()]) as at:
        answer = await at.ask(chat(stream_options=ASKED))
        record = await at.lane.record()
    assert (answer.body, answer.clean_end) == (b"".join(events), True)
    assert (record.failure, record.fallback) == (None, None)


async def test_unfinished_stream_that_ends_with_the_connection_is_cut() -> None:
    async with split([Read(), Send(UNTIL_END + ROLE + TEXT), Close()]) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert answer.body.startswith(ROLE + TEXT + b'data: {"error"')
    assert not answer.clean_end
    assert record.failure is Failure.STREAM_TRUNCATED


async def test_unfinished_stream_of_an_ended_connection_before_content_is_rescued() -> None:
    async with split([Read(), Send(UNTIL_END + ROLE), Close()]) as at:
        answer = await at.ask()
    assert (answer.body, answer.clean_end) == (b"".join(BASELINE_ANSWER), True)


async def test_connections_on_both_sides_are_kept_after_a_stream() -> None:
    stream, plain = (
        b"".join(ANSWER) + DONE,
        json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode(),
    )
    bodies = [stream, stream, plain, stream]
    script: list[Action] = []
    for body in bodies:
        sent = response(body) if body == plain else event_stream(*ANSWER, DONE)
        script += [Read(), Send(sent[:-20]), *ARRIVED, Send(sent[-20:])]
    async with split(script) as at, at.client() as client:
        for body in bodies:
            await client.send(chat(stream=body == stream))
            answer = await client.read_response()
            assert (answer.status, answer.body, answer.clean_end) == (200, body, True)
            assert answer.head.get(b"connection") is None
        assert (len(at.candidate.connections), len(at.candidate.requests)) == (1, 4)
        await at.lane.record(4)
        await at.lane.idle()


@pytest.mark.parametrize("keep_alive", [False, True])
async def test_http_1_0_client_gets_the_stream_unframed_until_the_end(keep_alive: bool) -> None:
    sent = chat(version="1.0")
    if keep_alive:
        sent = sent.replace(b"Host:", b"Connection: keep-alive\r\nHost:", 1)
    script = stream_then(ROLE, TEXT, ending=[*ARRIVED, Send(chunk(FINISH) + chunk(DONE)), CLEAN])
    async with split(script) as at, at.client() as client:
        await client.send(sent)
        answer = await client.read_response()
        assert await client.wait_closed() == "fin"
        record = await at.lane.record()
    assert (answer.body, answer.clean_end) == (ROLE + TEXT + FINISH + DONE, True)
    assert answer.head.get(b"transfer-encoding") is None
    assert answer.head.get(b"content-length") is None
    assert (record.status, record.failure) == (200, None)


async def test_http_1_0_upstream_is_understood() -> None:
    sound = UNTIL_END.replace(b"HTTP/1.1", b"HTTP/1.0") + b"".join(ANSWER) + DONE
    async with split([Read(), Send(sound), Close()]) as at:
        answer = await at.ask()
    assert (answer.body, answer.clean_end) == (b"".join(ANSWER) + DONE, True)


PLAIN = {
    "sound": (
        200,
        {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
    ),
    "bad_request": (400, {"error": {"message": "temperature too high", "type": "invalid_request_error"}}),
}


@pytest.mark.parametrize(("status", "body"), PLAIN.values(), ids=PLAIN.keys())
async def test_stream_request_answered_with_json_gets_the_json(status: int, body: dict[str, object]) -> None:
    sent = json.dumps(body).encode()
    async with split([Read(), Send(response(sent, status))]) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.status, answer.body, answer.clean_end) == (status, sent, True)
    assert answer.head.get(b"content-length") == b"%d" % len(sent)
    assert answer.head.get(b"content-type") == b"application/json"
    assert at.baseline.requests == []
    assert (record.status, record.usage) == (status, Usage(3, 1) if status == 200 else None)


@pytest.mark.parametrize("body", [b"null", b'{"choices":[]}', b"<html>", b'{"error":{"message":"x"}}'])
async def test_stream_request_answered_with_unsound_json_is_served_by_baseline(body: bytes) -> None:
    async with split([Read(), Send(response(body))]) as at:
        answer = await at.ask()
    assert (answer.body, answer.clean_end) == (b"".join(BASELINE_ANSWER), True)


@pytest.mark.parametrize("ending", [Close(), Reset()])
async def test_json_cut_short_of_its_length_is_served_by_baseline(ending: Action) -> None:
    sent = response(json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode())
    async with split([Read(), Send(sent[:-5]), *ARRIVED, ending]) as at:
        answer = await at.ask()
    assert (answer.body, answer.clean_end) == (b"".join(BASELINE_ANSWER), True)


async def test_stream_of_many_small_events_arrives_whole() -> None:
    events = [ROLE, *(delta(content=f"word{number} ") for number in range(2000)), FINISH, DONE]
    body = b"".join(events)
    sent = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    sent += b"".join(chunk(body[at : at + 997]) for at in range(0, len(body), 997)) + CLEAN.data
    async with split([Read(), Send(sent, size=1313)]) as at:
        answer = await at.ask()
    assert (answer.body == body, answer.clean_end) == (True, True)

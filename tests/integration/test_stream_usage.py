"""ACCEPTANCE 22: tokens are always counted; who did not ask for them does not see them."""

import json
from typing import Any

import pytest

from proxy.stub import Stub, StubConfig
from proxy.words import Dialect, Usage
from tests.integration.streaming import (
    ANSWER,
    ARRIVED,
    CLEAN,
    DONE,
    FINISH,
    ROLE,
    STREAM_HEAD,
    TEXT,
    Split,
    chat,
    delta,
    event,
    events_of,
    split,
    stream_then,
    usage,
)
from tests.support.lane import FINETUNED, Lane, policy_of, running
from tests.support.raw_client import RawClient, RawResponse
from tests.support.raw_upstream import Close, Read, Send, chunk, head

NOT_ASKED: dict[str, dict[str, Any]] = {
    "no_options": {},
    "null": {"stream_options": None},
    "empty": {"stream_options": {}},
    "false": {"stream_options": {"include_usage": False}},
    "other_option": {"stream_options": {"include_obfuscation": False}},
}


async def ask(lane: Lane, sent: bytes) -> RawResponse:
    async with RawClient(lane.host, lane.port) as client:
        await client.send(sent)
        return await client.read_response()


def parsed(answer: RawResponse) -> list[Any]:
    return [json.loads(each[6:]) for each in events_of(answer.body) if each != DONE]


@pytest.mark.parametrize("fields", NOT_ASKED.values(), ids=NOT_ASKED.keys())
async def test_usage_nobody_asked_for_is_in_the_record_alone(fields: dict[str, Any]) -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        answer = await ask(lane, chat(**fields))
        record = await lane.record()
    chunks = parsed(answer)
    assert all(each["choices"] for each in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert answer.body.endswith(DONE)
    assert answer.clean_end
    sent = stub.calls[0].json()["stream_options"]
    assert sent == {**(fields.get("stream_options") or {}), "include_usage": True}
    words = sum(bool(each["choices"][0]["delta"].get("content")) for each in chunks)
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated) == (words, False)
    assert record.usage.prompt > 0


async def test_client_that_asked_sees_the_usage_event_and_its_request_is_unchanged() -> None:
    sent = chat(stream_options={"include_usage": True})
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        answer = await ask(lane, sent)
        record = await lane.record()
    body = sent.partition(b"\r\n\r\n")[2]
    assert stub.calls[0].body == body.replace(b'"qa_agent"', b'"%b"' % FINETUNED.encode())
    last = parsed(answer)[-1]
    assert last["choices"] == []
    assert record.usage == Usage(last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"])


async def test_json_request_is_asked_for_nothing() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        await ask(lane, chat(stream=False))
        record = await lane.record()
    assert "stream_options" not in stub.calls[0].json()
    assert record.usage is not None
    assert record.usage.completion > 0


@pytest.mark.parametrize("fields", [*NOT_ASKED.values(), {"stream_options": {"include_usage": True}}])
async def test_mistral_gets_no_stream_options_and_its_usage_is_recorded(fields: dict[str, Any]) -> None:
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub,
        running(policy_of(stub.url, upstreams={"up": {"dialect": "mistral"}})) as lane,
    ):
        answer = await ask(lane, chat(**fields))
        record = await lane.record()
    assert answer.status == 200
    assert "stream_options" not in stub.calls[0].json()
    counts = parsed(answer)[-1]["usage"]  # on its last chunk, asked or not
    assert record.usage == Usage(counts["prompt_tokens"], counts["completion_tokens"])
    assert len(stub.calls) == 1


async def test_rescue_by_another_dialect_asks_and_strips_anew() -> None:
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL, faults={"*": "error_first"})) as mistral,
        Stub() as openai,
        running(
            policy_of(
                mistral.url,
                upstreams={"up": {"dialect": "mistral"}, "other": {"base_url": openai.url}},
                agents={"qa_agent": {"fallback": {"upstream": "other", "model": "gpt-4o"}}},
            )
        ) as lane,
    ):
        answer = await ask(lane, chat())
        record = await lane.record()
    assert openai.calls[0].json()["stream_options"] == {"include_usage": True}
    assert all(each["choices"] for each in parsed(answer))
    assert record.served == "gpt-4o"
    assert record.usage is not None
    assert not record.usage.estimated


USAGE = usage(7, 2)
FORMS = {
    "lf": USAGE,
    "crlf": USAGE.replace(b"\n", b"\r\n"),
    "spaced": b'data: {"choices": [], "usage" : {"prompt_tokens": 7, "completion_tokens": 2}}\n\n',
    "null_choices": usage(7, 2, choices=None),
    "no_choices": event({"usage": {"prompt_tokens": 7, "completion_tokens": 2}}),
    "two_lines": b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n',
}


@pytest.mark.parametrize("size", [0, 1, 64])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
async def test_usage_event_is_taken_out_whole_however_it_is_cut(form: bytes, size: int) -> None:
    tail = Send(chunk(form) + chunk(DONE) + CLEAN.data, size=size, pause=0.0002)
    async with split(stream_then(*ANSWER, ending=[*ARRIVED, tail])) as at:
        await _assert_stripped(at, b"".join(ANSWER) + DONE)


async def test_usage_event_is_taken_out_of_the_middle_of_a_read() -> None:
    body = FINISH + USAGE + DONE
    script = stream_then(ROLE, TEXT, ending=[Send(chunk(body[:30]) + chunk(body[30:])), CLEAN])
    async with split(script) as at:
        await _assert_stripped(at, ROLE + TEXT + FINISH + DONE)


async def test_usage_event_is_taken_out_where_it_is_the_last() -> None:
    until_end = head(200, STREAM_HEAD[:1])
    async with split([Read(), Send(until_end + b"".join(ANSWER)), *ARRIVED, Send(USAGE), Close()]) as at:
        await _assert_stripped(at, b"".join(ANSWER))


async def _assert_stripped(at: Split, body: bytes) -> None:
    answer = await at.ask()
    record = await at.lane.record()
    # A CR LF whose LF came late leaves that LF behind: one more blank line, which says nothing.
    assert (answer.body.replace(b"\n\n\n", b"\n\n"), answer.clean_end) == (body, True)
    assert (record.failure, record.usage) == (None, Usage(7, 2))


@pytest.mark.parametrize(
    "own",
    [
        usage(7, 2, choices=[{"index": 0, "delta": {"content": "!"}, "finish_reason": None}]),
        event({"id": "candidate", "choices": [], "prompt_filter_results": [], "usage": None}),
        delta(content='in a text: "usage":{"prompt_tokens":1}'),
        b': a comment with "usage":{ in it\n\n',
    ],
    ids=["with_content", "filter_results", "in_text", "comment"],
)
async def test_only_the_extra_event_is_taken_out(own: bytes) -> None:
    async with split(stream_then(ROLE, TEXT, own, FINISH, DONE, ending=CLEAN)) as at:
        answer = await at.ask()
    assert answer.body == ROLE + TEXT + own + FINISH + DONE


async def test_usage_reported_all_along_is_counted_once() -> None:
    told = [usage(7, count, [{"index": 0, "delta": {"content": "x"}}]) for count in (1, 2, 3)]
    async with split(stream_then(ROLE, *told, FINISH, DONE, ending=CLEAN)) as at:
        await at.ask()
        record = await at.lane.record()
    assert record.usage == Usage(7, 3)


async def test_stream_without_any_usage_is_estimated() -> None:
    async with split(stream_then(*ANSWER, DONE, ending=CLEAN)) as at:
        await at.ask()
        record = await at.lane.record()
    assert record.usage is not None
    assert record.usage.estimated
    assert record.usage.completion > 0

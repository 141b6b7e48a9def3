"""ACCEPTANCE 11 and 13: complete answers that are none, and are served by the baseline."""

import json

import pytest

from proxy.stub import Stub, StubConfig
from proxy.words import Dialect
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, policy_of, running
from tests.support.raw_upstream import Action, Close, RawUpstream, Read, Send, head, response
from tests.support.rescue import (
    ANSWER,
    BODIES,
    BODY,
    apart,
    ask,
    assert_rescued,
    calls_by_model,
    ours,
)

both_bodies = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


@both_bodies
@pytest.mark.parametrize("dialect", list(Dialect))
async def test_retired_fine_tune_is_served_by_baseline(dialect: Dialect, body: bytes) -> None:
    """ACCEPTANCE 11: in both vendors' words."""
    async with Stub(StubConfig(dialect=dialect, models=(BASELINE,))) as stub:
        policy = policy_of(stub.url, upstreams={"up": {"dialect": dialect.value}})
        async with running(policy) as lane:
            assert_rescued(await ask(lane, body), "model_gone")
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 1}


GONE = {
    "openai": (404, {"error": {"message": "gone", "type": "x", "param": None, "code": "model_not_found"}}),
    "mistral-1500": (
        400,
        {"object": "error", "message": "Invalid model: ft:x", "type": "invalid_model", "code": "1500"},
    ),
    "mistral-3003": (
        400,
        {
            "object": "error",
            "message": "Invalid model: ft:x",
            "type": "invalid_request_error",
            "code": "3003",
        },
    ),
    "mistral-number": (
        400,
        {"object": "error", "message": "Invalid model: ft:x", "type": "invalid_model", "code": 1500},
    ),
}


@pytest.mark.parametrize(("status", "error"), GONE.values(), ids=GONE)
async def test_every_wording_of_a_retired_model_is_served_by_baseline(status: int, error: dict[str, object]) -> None:
    """ACCEPTANCE 11."""
    script: list[Action] = [Read(), Send(response(json.dumps(error).encode(), status))]
    async with Stub() as stub, RawUpstream(script) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane), "model_gone")
        assert len(candidate.requests) == len(stub.calls) == 1


@pytest.mark.parametrize("user", [BASELINE_USER, "user-1"], ids=["assigned", "fallen-back"])
async def test_baselines_own_404_passes_through(user: str) -> None:
    """ACCEPTANCE 11: whoever comes to it, the baseline's answer is the last."""
    gone = b'{"error": {"message":"no such model","code" :"model_not_found","type":null}}\n'
    script: list[Action] = [
        Read(),
        Send(response(gone, 404, [("content-type", "application/json"), ("x-odd", "1")])),
    ]
    async with RawUpstream(script) as up:
        async with running(policy_of(up.url)) as lane:
            answer = await ask(lane, user=user)
            record = await lane.record()
        assert len(up.requests) == (1 if user == BASELINE_USER else 2)
    assert (answer.status, answer.body) == (404, gone)
    assert answer.head.all(b"x-odd") == [b"1"]
    assert (record.status, record.failure, record.served) == (404, "model_gone", BASELINE)


async def test_404_about_something_else_than_the_model_is_the_answer() -> None:
    """ACCEPTANCE 11: only the model's absence is a reason to ask another."""
    unknown = b'{"error":{"message":"Unknown request URL","type":"x","param":null,"code":"unknown_url"}}'
    async with Stub() as stub, RawUpstream([Read(), Send(response(unknown, 404))]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            answer = await ask(lane)
        assert stub.calls == []
    assert (answer.status, answer.body) == (404, unknown)


NO_ANSWERS = {
    "null": b"null",
    "nothing": b"",
    "blank": b" \n",
    "html": b"<html><h1>Welcome</h1></html>",
    "list": b"[]",
    "number": b"1",
    "text": b'"hello"',
    "cut": ANSWER[:-2],
    "two-values": ANSWER + b"{}",
    "openai-error": b'{"error":{"message":"oops","type":"server_error","param":null,"code":null}}',
    "mistral-error": b'{"object":"error","message":"oops","type":"server_error","code":"3000"}',
    "error-text": b'{"error":"oops"}',
}


@both_bodies
@pytest.mark.parametrize("nonsense", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_unsound_200_is_served_by_baseline(nonsense: bytes, body: bytes) -> None:
    """ACCEPTANCE 13."""
    async with Stub() as stub, RawUpstream([Read(), Send(response(nonsense))]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane, body), "bad_body")
        assert len(candidate.requests) == len(stub.calls) == 1


@pytest.mark.parametrize("status", [204, 301, 302, 307, 304])
async def test_success_without_an_answer_and_redirect_are_served_by_baseline(status: int) -> None:
    """ACCEPTANCE 13: a redirect is followed by nobody."""
    empty = head(status, [("location", "http://127.0.0.1:9/")] if status > 300 else [])
    async with Stub() as stub, RawUpstream([Read(), Send(empty), Close()]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane), "bad_body")
        assert len(candidate.requests) == len(stub.calls) == 1


EMPTY = {
    "no-choices": b'{"id":"c","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}}',
    "choices-null": b'{"id":"c","object":"chat.completion","choices":null}',
    "choices-missing": b'{"id":"c","object":"chat.completion"}',
    "object": b"{}",
    "no-content": ANSWER.replace(b'"content":"hello"', b'"content":""'),
    "content-null": ANSWER.replace(b'"content":"hello"', b'"content":null,"tool_calls":[]'),
    "message-missing": ANSWER.replace(b'"message":{"role":"assistant","content":"hello"}', b'"message":{}'),
}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
async def test_empty_answer_is_served_by_baseline_by_default(empty: bytes) -> None:
    """ACCEPTANCE 13."""
    async with Stub() as stub, RawUpstream([Read(), Send(response(empty))]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane), "empty")
        assert len(candidate.requests) == len(stub.calls) == 1


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
async def test_empty_answer_is_the_answer_where_the_policy_says_so(empty: bytes) -> None:
    """ACCEPTANCE 13."""
    async with Stub() as stub, RawUpstream([Read(), Send(response(empty))]) as candidate:
        policy = apart(candidate.url, stub.url, fallback={"on": {"empty": False}})
        async with running(policy) as lane:
            answer = await ask(lane)
            record = await lane.record()
        assert stub.calls == []
    assert (answer.status, answer.body) == (200, empty)
    assert (record.failure, record.fallback, record.served) == ("empty", None, FINETUNED)


ANSWERS = {
    "tool-calls": ANSWER.replace(b'"content":"hello"', b'"content":null,"tool_calls":[{"id":"1"}]'),
    "refusal": ANSWER.replace(b'"content":"hello"', b'"content":null,"refusal":"no"'),
    "second-choice": ANSWER.replace(b'"choices":[', b'"choices":[{"index":1,"message":{"content":""}},'),
    "content-parts": ANSWER.replace(b'"hello"', b'[{"type":"text","text":"hello"}]'),
    "error-null": ANSWER.replace(b'{"id"', b'{"error":null,"id"'),
}


@pytest.mark.parametrize("sound", ANSWERS.values(), ids=ANSWERS)
async def test_unusual_but_sound_answer_is_the_fine_tunes(sound: bytes) -> None:
    """ACCEPTANCE 13: what says anything is not empty."""
    async with Stub() as stub, RawUpstream([Read(), Send(response(sound))]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            answer = await ask(lane, BODY)
        assert stub.calls == []
    assert (answer.status, answer.body) == (200, sound)
    assert ours(answer) == {"agent": "qa_agent", "variant": "finetuned", "served": FINETUNED, "attempts": "1"}

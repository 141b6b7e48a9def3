"""What vendors' answers mean.  ACCEPTANCE 10–13; DESIGN §3.5.

The bodies are the vendors' own, from their documentation and from what their APIs sent.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.classify import BREAKING, RETRYABLE, judge
from proxy.words import Failure


def openai_error(code: str | None, message: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def mistral_error(kind: str, message: object, code: str | None = None) -> bytes:
    return json.dumps({"object": "error", "message": message, "type": kind, "param": None, "code": code}).encode()


MISTRAL_422 = {"detail": [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs"}]}
AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering our content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}
NGINX_404 = b"<html><head><title>404 Not Found</title></head></html>"

REFUSALS: dict[str, tuple[int, bytes, Failure]] = {
    # the model
    "openai model_not_found": (
        404,
        openai_error("model_not_found", "The model `ft:x` does not exist or you do not have access to it."),
        Failure.MODEL_GONE,
    ),
    "mistral invalid model": (
        400,
        mistral_error("invalid_model", "Invalid model: ft:open-mistral-7b:x", "1500"),
        Failure.MODEL_GONE,
    ),
    "mistral invalid model, no code": (
        400,
        mistral_error("invalid_model", "Invalid model: ft:x"),
        Failure.MODEL_GONE,
    ),
    "mistral 3003": (
        400,
        mistral_error("invalid_request_error", "Invalid model: ft:x", "3003"),
        Failure.MODEL_GONE,
    ),
    # the caller
    "openai validation": (
        400,
        openai_error("invalid_value", "Invalid value: 'bot'. Supported values are: 'system'."),
        Failure.BAD_REQUEST,
    ),
    "openai unknown parameter": (
        400,
        openai_error("unknown_parameter", "Unknown parameter: 'model_x': not found."),
        Failure.BAD_REQUEST,
    ),
    "mistral 422": (422, mistral_error("invalid_request_error", MISTRAL_422), Failure.BAD_REQUEST),
    "mistral 422, bare": (422, json.dumps(MISTRAL_422).encode(), Failure.BAD_REQUEST),
    "mistral 1500 about something else": (
        400,
        mistral_error("invalid_request_error", "Expected last role User or Tool", "1500"),
        Failure.BAD_REQUEST,
    ),
    "404 of another path": (404, b'{"detail":"Not Found"}', Failure.BAD_REQUEST),
    "404 of a gateway": (404, NGINX_404, Failure.BAD_REQUEST),
    "400 without a body": (400, b"", Failure.BAD_REQUEST),
    "400 with a list": (400, b"[1]", Failure.BAD_REQUEST),
    "400 with null": (400, b"null", Failure.BAD_REQUEST),
    "413": (413, b"<html>Request Entity Too Large</html>", Failure.BAD_REQUEST),
    # too long
    "openai context length": (
        400,
        openai_error("context_length_exceeded", "This model's maximum context length is 8192 tokens."),
        Failure.CONTEXT_LENGTH,
    ),
    "openai context length, no code": (
        400,
        openai_error(None, "This model's maximum context length is 8192 tokens."),
        Failure.CONTEXT_LENGTH,
    ),
    "mistral context length": (
        400,
        mistral_error(
            "invalid_request_prompt",
            "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
            "3051",
        ),
        Failure.CONTEXT_LENGTH,
    ),
    # the filter
    "azure content filter": (400, json.dumps(AZURE_FILTER).encode(), Failure.CONTENT_FILTER),
    "openai content policy": (
        400,
        openai_error("content_policy_violation", "Your request was rejected by our safety system."),
        Failure.CONTENT_FILTER,
    ),
    # the key
    "openai 401": (401, openai_error("invalid_api_key", "Incorrect API key provided"), Failure.AUTH),
    "mistral 401": (401, b'{"detail":"Unauthorized"}', Failure.AUTH),
    "403": (403, openai_error("unsupported_country_region_territory", "not supported"), Failure.AUTH),
    # too many
    "openai 429": (429, openai_error("rate_limit_exceeded", "Rate limit", "tokens"), Failure.RATE_LIMITED),
    "openai quota": (
        429,
        openai_error("insufficient_quota", "Quota exceeded"),
        Failure.RATE_LIMITED,
    ),
    "mistral 429": (429, mistral_error("rate_limited", "Rate limit exceeded", "1300"), Failure.RATE_LIMITED),
    # a redirect is followed by nobody
    **{f"{status}": (status, b"", Failure.BAD_BODY) for status in (301, 302, 304, 307, 308)},
    **{
        f"{status}": (status, b"<html>oops</html>", Failure.SERVER_ERROR)
        for status in (408, 425, 500, 501, 502, 503, 504, 520, 529, 599)
    },
}


@pytest.mark.parametrize(("status", "body", "failure"), list(REFUSALS.values()), ids=list(REFUSALS))
def test_refusal_of_a_vendor(status: int, body: bytes, failure: Failure) -> None:
    assert judge(status, body)[0] is failure
    assert judge(status, body, complete=False)[0] is failure


# --- successes --------------------------------------------------------------------------------------


def answer(message: object = None, finish: str | None = "stop", **more: object) -> dict[str, object]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "choices": [choice], **more}


CALL = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
SOUND: dict[str, dict[str, Any]] = {
    "text": answer({"role": "assistant", "content": "hi"}),
    "thoughts of mistral": answer({"content": [{"type": "thinking", "thinking": []}]}),
    "tool call": answer({"content": None, "tool_calls": CALL}, "tool_calls"),
    "function call": answer({"content": None, "function_call": {"name": "f"}}, "function_call"),
    "refusal": answer({"content": None, "refusal": "no"}),
    "audio": answer({"content": None, "audio": {"id": "a"}}),
    "stopped by the filter": answer({"content": ""}, "content_filter"),
    "stopped by the filter, no message": answer(None, "content_filter"),
    "second choice only": {"choices": [{"message": {"content": ""}}, {"message": {"content": "hi"}}]},
    "legacy text": {"choices": [{"text": "hi"}]},
    "error beside an answer": answer({"content": "hi"}, error=None),
}
EMPTY: dict[str, dict[str, Any]] = {
    "no choices": {"choices": []},
    "choices null": {"choices": None},
    "no such key": {"id": "x"},
    "nothing": {},
    "empty text": answer({"role": "assistant", "content": ""}),
    "null text": answer({"content": None}),
    "null text, cut by length": answer({"content": None}, "length"),
    "empty tool calls": answer({"content": "", "tool_calls": []}),
    "null message": answer(None),
    "choices of nulls": {"choices": [None]},
    "choices no list": {"choices": "x"},
    "choices a number": {"choices": 1},
}
BAD: dict[str, bytes] = {
    "null": b"null",
    "nothing": b"",
    "spaces": b" \n",
    "html": b"<html></html>",
    "cut": b'{"choices":[{"message":{"content":"hi',
    "list": b"[]",
    "string": b'"ok"',
    "number": b"1",
    "not UTF-8": b'{"choices":[{"message":{"content":"\xff"}}]}',
    "events": b'data: {"choices":[]}\n\n',
    "openai error": openai_error("server_error", "The server had an error", "server_error"),
    "error of text": b'{"error":"overloaded"}',
    "mistral error": mistral_error("service_unavailable", "overloaded", "3505"),
    "error and no choices": b'{"error":{"message":"m"},"choices":[]}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("status", [200, 201, 206])
@pytest.mark.parametrize("body", list(SOUND.values()), ids=list(SOUND))
def test_sound_answer(status: int, body: dict[str, Any]) -> None:
    assert judge(status, json.dumps(body).encode()) == (None, body)


@pytest.mark.parametrize("body", list(EMPTY.values()), ids=list(EMPTY))
def test_answer_that_says_nothing_is_empty(body: dict[str, Any]) -> None:
    assert judge(200, json.dumps(body).encode())[0] is Failure.EMPTY


@pytest.mark.parametrize("body", list(BAD.values()), ids=list(BAD))
def test_success_that_is_none_is_a_bad_body(body: bytes) -> None:
    assert judge(200, body)[0] is Failure.BAD_BODY


def test_beginning_of_a_long_success_stands() -> None:
    assert judge(200, b'{"choices":[{"mess', complete=False) == (None, None)


@given(st.integers(100, 999), st.one_of(st.binary(), st.sampled_from(list(BAD.values()))), st.booleans())
def test_no_answer_is_too_odd_to_be_judged(status: int, body: bytes, complete: bool) -> None:
    failure = judge(status, body, complete=complete)[0]
    success = 200 <= status < 300
    assert failure is not None or success
    assert failure is None or not success or complete


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "code", "type", "object"]),
            inner,
            max_size=3,
        ),
    ),
)


@given(st.sampled_from([200, 400, 401, 404, 422, 429, 500]), json_values)
def test_no_json_is_too_odd_to_be_judged(status: int, value: object) -> None:
    failure, _ = judge(status, json.dumps(value).encode())
    assert failure is not None or status == 200


# --- what follows from a failure --------------------------------------------------------------------

CLIENTS_OWN = {
    Failure.BAD_REQUEST,
    Failure.CONTENT_FILTER,
    Failure.CONTEXT_LENGTH,
    Failure.AUTH,
    Failure.CLIENT_GONE,
}


def test_only_what_said_not_now_or_broke_off_is_asked_again() -> None:
    assert {Failure.RATE_LIMITED, Failure.SERVER_ERROR, Failure.RESET} == RETRYABLE
    assert not any(failure.value.endswith("timeout") for failure in RETRYABLE)


def test_mistakes_of_the_client_never_open_a_breaker() -> None:
    assert not BREAKING & CLIENTS_OWN
    assert not BREAKING & {Failure.SHUTDOWN, Failure.OVERLOAD, Failure.BUDGET, Failure.BRAKE, Failure.BREAKER_OPEN}


def test_ill_model_opens_its_breaker() -> None:
    assert RETRYABLE | {Failure.CONNECT, Failure.MODEL_GONE, Failure.FIRST_BYTE_TIMEOUT} <= BREAKING

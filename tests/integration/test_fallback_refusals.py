"""ACCEPTANCE 12: the client's own mistakes are answered once, as the fine-tune answered them."""

import json
from typing import Any

import pytest

from proxy.stub import Stub, StubConfig
from tests.support.lane import BASELINE, FINETUNED, running
from tests.support.raw_upstream import Action, RawUpstream, Read, Send, response
from tests.support.rescue import ANSWER, BODIES, apart, ask, assert_rescued, ours

both_bodies = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


def openai_error(code: str | None, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code, **more}}


AZURE_FILTER = openai_error(
    "content_filter",
    "The response was filtered due to the prompt triggering content management policy.",
    innererror={
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"hate": {"filtered": True}},
    },
)
TOO_LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."

REFUSALS = {
    "validation": (400, openai_error(None, "[] is too short - 'messages'"), "bad_request"),
    "unknown-parameter": (400, openai_error("unknown_parameter", "Unknown: 'x'"), "bad_request"),
    "mistral-422": (422, {"object": "error", "message": {"detail": [{"type": "missing"}]}}, "bad_request"),
    "fastapi-422": (422, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}, "bad_request"),
    "too-large": (413, openai_error(None, "Payload too large"), "bad_request"),
    "conflict": (409, openai_error(None, "Conflict"), "bad_request"),
    "context-openai": (400, openai_error("context_length_exceeded", TOO_LONG), "context_length"),
    "context-mistral": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 "
            "maximum context length",
            "type": "invalid_request_prompt",
            "code": "3051",
        },
        "context_length",
    ),
    "filter-openai": (400, openai_error("content_policy_violation", "Rejected."), "content_filter"),
    "filter-azure": (400, AZURE_FILTER, "content_filter"),
    "filter-403": (403, openai_error("content_filter", "Rejected."), "content_filter"),
    "auth": (401, openai_error("invalid_api_key", "Incorrect API key provided."), "auth"),
    "forbidden": (403, openai_error(None, "Not allowed."), "auth"),
}


@both_bodies
@pytest.mark.parametrize(("status", "error", "reason"), REFUSALS.values(), ids=REFUSALS)
async def test_refusal_is_answered_once_and_untouched(
    status: int, error: dict[str, Any], reason: str, body: bytes
) -> None:
    """ACCEPTANCE 12: with every retry the policy allows, still one attempt."""
    refusal = json.dumps(error, indent=1).encode() + b"\n"
    fields = [("content-type", "application/json; charset=utf-8"), ("X-Request-ID", "req_1")]
    script: list[Action] = [Read(), Send(response(refusal, status, fields))]
    async with Stub() as stub, RawUpstream(script) as candidate:
        policy = apart(candidate.url, stub.url, fallback={"retry": {"finetuned": 2, "baseline": 2}})
        async with running(policy) as lane:
            answer = await ask(lane, body)
            record = await lane.record()
        assert len(candidate.requests) == 1
        assert stub.calls == []
    assert (answer.status, answer.body) == (status, refusal)
    assert answer.head.all(b"x-request-id") == [b"req_1"]
    assert answer.head.get(b"content-type") == b"application/json; charset=utf-8"
    assert ours(answer) == {"agent": "qa_agent", "variant": "finetuned", "served": FINETUNED, "attempts": "1"}
    assert (record.status, record.failure, record.fallback) == (status, reason, None)


async def test_filtered_answer_is_an_answer() -> None:
    """ACCEPTANCE 12: a 200 that the filter stopped is not routed around either."""
    filtered = ANSWER.replace(b'"content":"hello"', b'"content":""').replace(b'"stop"', b'"content_filter"')
    async with Stub() as stub, RawUpstream([Read(), Send(response(filtered))]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            answer = await ask(lane)
        assert stub.calls == []
    assert (answer.status, answer.body) == (200, filtered)


@pytest.mark.parametrize(("switch", "fault"), [("context_length", "context_length"), ("auth", "auth")])
async def test_refusal_is_served_by_baseline_where_the_policy_says_so(switch: str, fault: str) -> None:
    """ACCEPTANCE 12: two refusals may be switched on; the filter has no switch."""
    async with Stub() as stub, Stub(StubConfig(faults={"*": fault})) as candidate:
        policy = apart(candidate.url, stub.url, fallback={"on": {switch: True}})
        async with running(policy) as lane:
            assert_rescued(await ask(lane), switch)
        assert len(candidate.calls) == len(stub.calls) == 1
        assert stub.calls[0].model == BASELINE

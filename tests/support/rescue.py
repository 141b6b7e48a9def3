"""Chats through a lane whose fine-tune is somewhere else than its baseline.

    async with Stub() as stub, RawUpstream([Read(), Reset()]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane), "reset")

A candidate has short time-outs, a baseline the default ones: a slow test machine fails no baseline.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.policy.snapshot import Policy
from proxy.stub import Stub
from tests.support.lane import BASELINE, FINETUNED, FINETUNED_USER, Lane, policy_of
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import response

CHAT = "/v1/chat/completions"
BODY = b'{"model":"any", "messages":[{"role":"user","content":"hi"}],"top_p":1.0}'
STREAM_BODY = BODY[:-1] + b',"stream":true}'
BODIES = {"json": BODY, "stream": STREAM_BODY}

QUICK = {"connect": "300ms", "first_byte": "300ms", "first_content": "400ms", "idle": "300ms"}

# What a candidate that is well says, where a test scripts it byte by byte.
ANSWER = (
    b'{"id":"candidate-1","object":"chat.completion","model":"candidate","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)
OK = response(ANSWER)


def apart(
    candidate_url: str,
    baseline_url: str,
    *,
    candidate: Mapping[str, Any] | None = None,
    timeouts: Mapping[str, str] | None = None,
    **changes: Any,
) -> Policy:
    """A policy with the fine-tune at one upstream and the baseline at another.

    `candidate` adds to the settings of the fine-tune's upstream, `timeouts` to its time-outs.
    """
    settings = {
        "base_url": candidate_url,
        "api_key": "sk-candidate",
        "timeouts": {**QUICK, **(timeouts or {})},
    }
    agent = {"fine_tuned": {"upstream": "candidate", "model": FINETUNED}}
    return policy_of(
        baseline_url,
        upstreams={"candidate": {**settings, **(candidate or {})}},
        agents={"qa_agent": agent},
        **changes,
    )


def chat(body: bytes = BODY, *, user: str = FINETUNED_USER, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """The bytes of one chat request of `qa_agent`."""
    fields = [("Content-Type", "application/json"), ("X-Agent", "qa_agent"), ("X-User-Id", user), *headers]
    return request("POST", CHAT, body, fields)


async def ask(
    lane: Lane, body: bytes = BODY, *, user: str = FINETUNED_USER, headers: Sequence[tuple[str, str]] = ()
) -> RawResponse:
    """One chat on a connection of its own."""
    async with RawClient(lane.host, lane.port, timeout=15) as client:
        await client.send(chat(body, user=user, headers=headers))
        return await client.read_response()


def answering_model(answer: RawResponse) -> str:
    """The model that the answer itself names, in its JSON or its first event."""
    text = answer.body
    if text.startswith(b"data: "):
        text = text.removeprefix(b"data: ").partition(b"\n")[0]
    model = json.loads(text)["model"]
    assert isinstance(model, str)
    return model


def assert_rescued(answer: RawResponse, reason: str, *, attempts: int = 2) -> None:
    """The baseline answered in the fine-tune's place, wholly, and the headers say so."""
    assert answer.status == 200
    assert answer.clean_end
    assert answering_model(answer) == BASELINE
    assert ours(answer) == {
        "agent": "qa_agent",
        "variant": "finetuned",
        "served": BASELINE,
        "attempts": str(attempts),
        "fallback": reason,
    }


def ours(answer: RawResponse) -> dict[str, str]:
    """Our own response headers without their prefix, save the two that differ in every run."""
    prefix = "x-splitlane-"
    named = {name.decode().lower(): value.decode() for name, value in answer.headers}
    return {
        name.removeprefix(prefix): value
        for name, value in named.items()
        if name.startswith(prefix) and name not in (prefix + "request-id", prefix + "policy")
    }


def calls_by_model(stub: Stub) -> dict[str, int]:
    """How often each model was called."""
    return dict(Counter(call.model for call in stub.calls))

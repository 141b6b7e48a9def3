"""Requests as raw bytes, and what to expect of our own answers: for the tests of limits and bad input."""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.lane import FINETUNED_USER, Lane
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import response

CHAT = "/v1/chat/completions"
# A sound chat answer, for raw upstreams.
ANSWER = response(
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"fine"}}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)


def chat_body(**fields: Any) -> bytes:
    """A chat request's JSON; `fields` replace or add top-level members."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()


def chat(
    body: bytes | None = None,
    *,
    agent: str | None = "qa_agent",
    user: str | None = FINETUNED_USER,
    headers: Sequence[tuple[str, str]] = (),
    target: str = CHAT,
) -> bytes:
    """A whole chat request; None leaves an identity header out."""
    identity = [("x-agent", agent), ("x-user-id", user)]
    fields = [(name, value) for name, value in identity if value is not None]
    return request("POST", target, chat_body() if body is None else body, [*fields, *headers])


async def ask(lane: Lane, data: bytes) -> RawResponse:
    """The answer to one request on a connection of its own."""
    async with RawClient(lane.host, lane.port) as client:
        await client.send(data)
        return await client.read_response()


def error_of(answer: RawResponse) -> dict[str, Any]:
    """The error object of one of our own answers, its shape checked: what both SDKs parse."""
    assert answer.clean_end
    assert answer.head.get(b"content-type") == b"application/json"
    error: dict[str, Any] = json.loads(answer.body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None
    assert isinstance(error["code"], str)
    return error

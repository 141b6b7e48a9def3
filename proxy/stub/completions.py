"""The older text completions and the Responses API, both OpenAI's; as little as their SDK needs."""

from collections.abc import Iterator
from typing import Any

from proxy.stub.answers import DONE, Answer, Event, Kind, event, json_answer, stream_answer
from proxy.stub.ask import Ask, reply_to
from proxy.stub.chat import Stamp, usage
from proxy.stub.text import Reply
from proxy.words import Dialect


def text_answer(ask: Ask, stamp: Stamp, default_words: int) -> Answer:
    """Answer `POST /v1/completions`."""
    reply = reply_to(ask, default_words)
    frame = {
        "id": f"cmpl-stub-{stamp.number}",
        "object": "text_completion",
        "created": stamp.created,
        "model": ask.model,
    }
    if ask.stream:
        return stream_answer(_text_events(ask, reply, frame))
    counts = usage(ask, reply.tokens, Dialect.OPENAI)
    return json_answer(frame | {"choices": [_text(reply.content, reply.finish)], "usage": counts}, reply.tokens)


def _text(text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def _text_events(ask: Ask, reply: Reply, frame: dict[str, Any]) -> Iterator[Event]:
    tail: dict[str, Any] = {"usage": None} if ask.include_usage else {}
    for piece in reply.pieces:
        yield event(Kind.CONTENT, frame | {"choices": [_text(piece, None)]} | tail)
    yield event(Kind.FINISH, frame | {"choices": [_text("", reply.finish)]} | tail)
    if ask.include_usage:
        yield event(Kind.USAGE, frame | {"choices": [], "usage": usage(ask, reply.tokens, Dialect.OPENAI)})
    yield DONE


def responses_answer(ask: Ask, stamp: Stamp, default_words: int) -> Answer:
    """Answer `POST /v1/responses`: one message of text."""
    reply = reply_to(ask, default_words)
    if ask.stream:
        return stream_answer(_response_events(ask, reply, stamp))
    return json_answer(_response(ask, reply, stamp, "completed"), reply.tokens)


def _message(reply: Reply, stamp: Stamp) -> dict[str, Any]:
    text = {"type": "output_text", "text": reply.content, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_stub_{stamp.number}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }


def _response(ask: Ask, reply: Reply, stamp: Stamp, status: str) -> dict[str, Any]:
    done = status == "completed"
    prompt = ask.prompt_tokens
    counts = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": reply.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + reply.tokens,
    }
    return {
        "id": f"resp_stub_{stamp.number}",
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "model": ask.model,
        "output": [_message(reply, stamp)] if done else [],
        "usage": counts if done else None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }


def _response_events(ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Event]:
    """Yield the Responses API's events; it ends without [DONE]."""
    number = 0

    def named(kind: Kind, name: str, **fields: Any) -> Event:
        nonlocal number
        number += 1
        return event(kind, {"type": name, "sequence_number": number - 1, **fields}, name)

    message = _message(reply, stamp)
    place = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    empty = {**message, "status": "in_progress", "content": []}
    part = message["content"][0]
    yield named(Kind.ROLE, "response.created", response=_response(ask, reply, stamp, "in_progress"))
    yield named(Kind.ROLE, "response.output_item.added", output_index=0, item=empty)
    yield named(Kind.ROLE, "response.content_part.added", **place, part={**part, "text": ""})
    for piece in reply.pieces:
        yield named(Kind.CONTENT, "response.output_text.delta", **place, delta=piece, logprobs=[])
    yield named(Kind.FINISH, "response.output_text.done", **place, text=reply.content, logprobs=[])
    yield named(Kind.FINISH, "response.content_part.done", **place, part=part)
    yield named(Kind.FINISH, "response.output_item.done", output_index=0, item=message)
    yield named(Kind.FINISH, "response.completed", response=_response(ask, reply, stamp, "completed"))

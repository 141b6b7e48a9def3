"""Chat completions of both vendors; Mistral's FIM completions have the same shape."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy.stub.answers import DONE, Answer, Event, Kind, event, json_answer, stream_answer
from proxy.stub.ask import Ask, reply_to
from proxy.stub.faults import Fault
from proxy.stub.text import Reply
from proxy.words import Dialect


class Stamp(NamedTuple):
    """What differs between two answers to the same request."""

    number: int  # of the call
    created: int  # Unix seconds


def chat_answer(ask: Ask, stamp: Stamp, fault: Fault, dialect: Dialect, default_words: int) -> Answer:
    """Answer a chat, as JSON or as a stream."""
    reply = reply_to(ask, default_words)
    if ask.stream:
        return stream_answer(_events(ask, reply, stamp, fault, dialect))
    silent = fault.empty == "content" or fault.role_only
    choices = [_choice(index, reply, silent, stamp, dialect) for index in range(ask.choices)]
    body = _frame("chat.completion", ask, stamp, dialect)
    body["choices"] = [] if fault.empty == "choices" else choices
    if not fault.no_usage:
        body["usage"] = usage(ask, reply.tokens * ask.choices, dialect)
    return json_answer(body, reply.tokens)


def usage(ask: Ask, completion: int, dialect: Dialect) -> dict[str, Any]:
    """Return the token counts of an answer of `completion` words."""
    prompt = ask.prompt_tokens
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if dialect is Dialect.OPENAI:
        counts["prompt_tokens_details"] = {"cached_tokens": 0, "audio_tokens": 0}
        counts["completion_tokens_details"] = {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    return counts


def _frame(kind: str, ask: Ask, stamp: Stamp, dialect: Dialect) -> dict[str, Any]:
    frame: dict[str, Any] = {
        "id": f"chatcmpl-stub-{stamp.number}" if dialect is Dialect.OPENAI else f"{stamp.number:032x}",
        "object": kind,
        "created": stamp.created,
        "model": ask.model,
    }
    if dialect is Dialect.OPENAI:
        frame |= {"service_tier": "default", "system_fingerprint": "fp_stub"}
    return frame


def _choice(index: int, reply: Reply, silent: bool, stamp: Stamp, dialect: Dialect) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.content}
    if reply.tool:
        message["content"] = None if dialect is Dialect.OPENAI else ""
        message["tool_calls"] = [_tool_call(index, reply, stamp, dialect)]
    elif dialect is Dialect.MISTRAL:
        message["tool_calls"] = None
    if dialect is Dialect.OPENAI:
        message |= {"refusal": None, "annotations": []}
    if silent:
        message["content"] = ""
        message.pop("tool_calls", None)
    choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": reply.finish}
    if dialect is Dialect.OPENAI:
        choice["logprobs"] = None
    return choice


def _tool_call(index: int, reply: Reply, stamp: Stamp, dialect: Dialect) -> dict[str, Any]:
    assert reply.tool is not None
    # Mistral refuses ids that are not nine letters and digits
    openai = dialect is Dialect.OPENAI
    name = f"call_stub_{stamp.number}_{index}" if openai else f"s{stamp.number % 10**7:07}{index % 10}"
    function = {"name": reply.tool.name, "arguments": reply.tool.arguments}
    call: dict[str, Any] = {"id": name, "type": "function", "function": function}
    return call if openai else {**call, "index": 0}


def _events(ask: Ask, reply: Reply, stamp: Stamp, fault: Fault, dialect: Dialect) -> Iterator[Event]:
    """Yield a stream: role first, one content delta a word, the finish reason, usage, [DONE]."""
    openai = dialect is Dialect.OPENAI
    frame = _frame("chat.completion.chunk", ask, stamp, dialect)
    tail: dict[str, Any] = {"usage": None} if openai and ask.include_usage else {}
    counts = usage(ask, reply.tokens * ask.choices, dialect)

    def chunk(kind: Kind, index: int, delta: dict[str, Any], finish: str | None = None) -> Event:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
        if openai:
            choice["logprobs"] = None
        last = tail
        if not openai and finish is not None and index == ask.choices - 1 and not fault.no_usage:
            last = {"usage": counts}
        return event(kind, frame | {"choices": [choice]} | last)

    for index in range(ask.choices):
        role: dict[str, Any] = {"role": "assistant", "content": ""}
        if openai:
            role["refusal"] = None
        yield chunk(Kind.ROLE, index, role)
    for index in range(ask.choices):
        finish_delta: dict[str, Any] = {} if openai else {"content": ""}
        if reply.tool and not openai:
            # Mistral sends a tool call whole, together with the finish reason
            finish_delta = {"content": "", "tool_calls": [_tool_call(index, reply, stamp, dialect)]}
        elif reply.tool:
            for delta in _tool_deltas(_tool_call(index, reply, stamp, dialect)):
                yield chunk(Kind.CONTENT, index, {"tool_calls": [delta]})
        for piece in reply.pieces:
            yield chunk(Kind.CONTENT, index, {"content": piece})
        yield chunk(Kind.FINISH, index, finish_delta, reply.finish)
    if openai and ask.include_usage and not fault.no_usage:
        yield event(Kind.USAGE, frame | {"choices": [], "usage": counts})
    yield DONE


def _tool_deltas(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield OpenAI's deltas of one tool call: its name first, then its arguments in fragments."""
    arguments = call["function"]["arguments"]
    yield {"index": 0, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
    for start in range(0, len(arguments), 8):
        yield {"index": 0, "function": {"arguments": arguments[start : start + 8]}}

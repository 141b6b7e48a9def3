"""What an answer means: one pure function for complete answers, whatever vendor sent them.

Streams share it: a stream's first event is judged by `wire.sse.parse_event`, its head and its
error body here.  Content-filter refusals and other mistakes of the client are told apart from
failures of the model, because only the latter may be answered by another model.
"""

from typing import Any, Final

import orjson

from proxy.wire.sse import has_content, says_something
from proxy.words import Failure

_loads: Final = orjson.loads

# The target may be asked again: it said "not now" or broke off.  Never after a time-out: it may
# still be working, and billing.
RETRYABLE: Final = frozenset({Failure.RATE_LIMITED, Failure.SERVER_ERROR, Failure.RESET})

# What counts against a model's breaker: the model or its upstream is ill, whoever calls.
BREAKING: Final = frozenset(
    {
        Failure.CONNECT,
        Failure.CONNECT_TIMEOUT,
        Failure.FIRST_BYTE_TIMEOUT,
        Failure.FIRST_CONTENT_TIMEOUT,
        Failure.IDLE_TIMEOUT,
        Failure.RESET,
        Failure.RATE_LIMITED,
        Failure.SERVER_ERROR,
        Failure.MODEL_GONE,
        Failure.BAD_BODY,
        Failure.STREAM_ERROR,
        Failure.STREAM_TRUNCATED,
    }
)


def judge(status: int, body: bytes, *, complete: bool = True) -> tuple[Failure | None, Any]:
    """Judge an answer by its status and body: the failure, and the parsed body of a success.

    `body` has no content encoding; not `complete`: it is only the beginning, longer than anything
    that could be unsound, so a success stands.
    """
    if status < 200 or status >= 300:
        return _status_failure(status, body), None
    if not complete:
        return None, None
    try:
        answer = _loads(body)
        choices = answer["choices"]
        if choices[0]["message"]["content"]:
            return None, answer  # what nearly every answer looks like
    except (orjson.JSONDecodeError, LookupError, TypeError):
        pass
    return _judge_unusual(body)


def _status_failure(status: int, body: bytes) -> Failure:
    if status >= 500 or status in (408, 425):
        return Failure.SERVER_ERROR
    if status == 429:
        return Failure.RATE_LIMITED
    if status < 400:
        # A redirect is followed by nobody: the upstream is only ever the policy's.
        return Failure.BAD_BODY
    return _client_error(status, body)


def _judge_unusual(body: bytes) -> tuple[Failure | None, Any]:
    try:
        answer = _loads(body)
    except orjson.JSONDecodeError:
        return Failure.BAD_BODY, None
    if not isinstance(answer, dict):
        return Failure.BAD_BODY, None
    choices = answer.get("choices")
    if choices:
        sound = isinstance(choices, list) and any(map(_answers, choices))
        return None if sound else Failure.EMPTY, answer
    if answer.get("error") or answer.get("object") == "error":
        return Failure.BAD_BODY, answer
    return Failure.EMPTY, answer


def _answers(choice: Any) -> bool:
    """Whether a choice says something.  Unlike in a stream, a finish reason alone does not, save
    that the filter stopped it: that is an answer, and another model must not be asked instead."""
    if not isinstance(choice, dict):
        return False
    if says_something(choice.get("message")) or choice.get("text"):
        return True
    return choice.get("finish_reason") == "content_filter" or ("message" not in choice and has_content(choice))


def _client_error(status: int, body: bytes) -> Failure:
    code, text = _error_words(body)
    if _any_in(("content_filter", "content_policy", "responsibleai"), code):
        return Failure.CONTENT_FILTER
    if status in (401, 403):
        return Failure.AUTH
    if code in ("model_not_found", "invalid_model") or (
        code in ("1500", "3003", "404", "not_found", "notfounderror", "") and "model" in text and _any_in(_GONE, text)
    ):
        return Failure.MODEL_GONE
    if "context_length" in code or _any_in(("maximum context length", "context_length", "too large for model"), text):
        return Failure.CONTEXT_LENGTH
    return Failure.BAD_REQUEST


_GONE: Final[tuple[str, ...]] = (
    "invalid model",
    "not found",
    "does not exist",
    "unknown model",
    "deprecated",
    "retired",
)


def _any_in(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)


def _error_words(body: bytes) -> tuple[str, str]:
    """The code (or type) and the message of either vendor's error body, in lower case."""
    try:
        parsed = _loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(parsed, dict):
        return "", ""
    error = parsed.get("error")
    if not isinstance(error, dict):
        error = parsed  # Mistral: the fields lie at the top
    kind = error.get("type")
    code = error.get("code")
    if kind == "invalid_model" or code is None:
        code = kind
    message = error.get("message")
    return str(code or "").lower(), message.lower() if isinstance(message, str) else ""

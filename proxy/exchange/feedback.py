"""`POST /v1/feedback`: what a client says of an earlier answer, read, checked and handed on.

It names the request by our id or by the upstream's.  Who was assigned what is in that request's
record: nothing that a client says of agents, users or variants is looked at.
"""

import json
import re
from typing import Any, Final

import orjson

from proxy.exchange.call import CallState, Refusal, date_field
from proxy.exchange.intake import Buffered, read_body, whole_body
from proxy.ledger import FeedbackSink
from proxy.wire.errors import ErrorAnswer, bad_request
from proxy.words import Failure, Feedback

# The longest sensible one takes a tenth of this; it is parsed on the event loop.
MAX_FEEDBACK: Final = 64 * 1024
# Characters of a comment that are kept.
MAX_COMMENT: Final = 1000

_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
# What databases, terminals or UTF-8 cannot take: control characters and lone surrogates.
_UNCLEAN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")

_NO_STORE: Final = ErrorAnswer(
    501, "server_error", "not_available", "feedback is not kept: the policy has no store.url"
)
_TOO_LARGE: Final = bad_request(f"feedback is at most {MAX_FEEDBACK} bytes", "body_too_large", 413)


async def take_feedback(call: CallState, buffered: Buffered, sink: FeedbackSink | None) -> None:
    """Answer 202 once `sink` has it.  Raises Refusal: no store, too large, or not what is expected."""
    if sink is None:
        raise Refusal(_NO_STORE, Failure.BAD_REQUEST)
    whole = whole_body(call, buffered)
    raw = await read_body(call, buffered) if whole is None else whole
    if len(raw) > MAX_FEEDBACK:
        raise Refusal(_TOO_LARGE, Failure.BAD_REQUEST)
    feedback = read_feedback(raw, call.time)
    sink(feedback)
    call.status = 202
    fields = b"Content-Type: application/json\r\n" + date_field() + call.added_fields()
    call.client.respond(202, fields, orjson.dumps({"id": feedback.id, "status": "accepted"}))


def read_feedback(raw: bytes, now: float) -> Feedback:
    """A body's feedback, at Unix time `now`.  Raises Refusal, which says what was expected.

    Without an id of its own it has one of the request it is about: sent twice, it counts once.
    """
    try:
        # Not orjson: a comment cut in the middle of an emoji is JSON with a lone surrogate.
        body = json.loads(raw.decode())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _unexpected("a JSON object with request_id or response_id, and value")
    request_id = _id(body, "request_id")
    response_id = _id(body, "response_id")
    if bool(request_id) == bool(response_id):
        raise _unexpected("one of request_id and response_id")
    about = f"request:{request_id}" if request_id else f"response:{response_id}"
    return Feedback(_id(body, "id") or about, request_id, response_id, _score(body), _comment(body), now)


def _id(body: dict[str, Any], name: str) -> str:
    """The id in member `name`; empty where there is none."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _unexpected(f"{name} as a string of 1 to 128 visible ASCII characters")
    return value


def _score(body: dict[str, Any]) -> float:
    value = body.get("value")
    if isinstance(value, bool | int | float) and 0 <= value <= 1:  # NaN is neither
        return float(value)
    raise _unexpected("value as true, false, or a number from 0 to 1")


def _comment(body: dict[str, Any]) -> str:
    value = body.get("comment")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _unexpected("comment as a string")
    return _UNCLEAN.sub(" ", value).strip()[:MAX_COMMENT]


def _unexpected(expected: str) -> Refusal:
    return Refusal(bad_request(f"expected {expected}"), Failure.BAD_REQUEST)

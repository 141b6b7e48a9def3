"""The shape of an answer, before faults: one JSON body, or the events of a stream."""

import json
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream; charset=utf-8"


class Kind(Enum):
    """What an event carries; faults pick their moment by it."""

    ROLE = auto()
    CONTENT = auto()
    FINISH = auto()
    USAGE = auto()
    DONE = auto()


class Event(NamedTuple):
    """One server-sent event, ready to be written."""

    kind: Kind
    data: bytes


class Answer(NamedTuple):
    """An answer: `events` where it is a stream, else `body`."""

    status: int
    body: bytes = b""
    events: Iterable[Event] | None = None
    words: int = 0  # generated, for the pace of an answer that is no stream
    content_type: str = JSON_TYPE


DONE = Event(Kind.DONE, b"data: [DONE]\n\n")


def dump(value: object) -> bytes:
    """Return compact JSON in UTF-8; lone surrogates, which UTF-8 cannot hold, become question marks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def event(kind: Kind, value: object, name: str = "") -> Event:
    """Return one event with a JSON payload, and its `event:` line where it has a name."""
    head = f"event: {name}\n".encode() if name else b""
    return Event(kind, b"%bdata: %b\n\n" % (head, dump(value)))


def json_answer(value: object, words: int = 0, status: int = 200) -> Answer:
    """Return a JSON answer."""
    return Answer(status, dump(value), words=words)


def stream_answer(events: Iterable[Event]) -> Answer:
    """Return a stream."""
    return Answer(200, events=events, content_type=SSE_TYPE)

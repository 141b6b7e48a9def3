"""Server-sent events as bytes: where one event ends, and what its data says.

Laws: the events and the rest, joined, are the bytes that came in; the work is linear in them
however they are cut; an event ends at the first byte that ends it (a lone CR included, whose LF
then opens the next event as an empty line).  Source: WHATWG HTML, "Server-sent events".
"""

import re
from enum import Enum
from typing import Any, Final

import orjson

_loads: Final = orjson.loads
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_CR: Final = 0x0D
_BOM: Final = b"\xef\xbb\xbf"
DONE: Final = b"[DONE]"

# An unfinished event longer than this is passed on in pieces: memory stays bounded.
MAX_EVENT: Final = 8 * 1024 * 1024


class EventReader:
    """Cuts a byte stream into events; keeps the unfinished rest."""

    __slots__ = ("_after_cr", "_rest", "_scanned", "between")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._after_cr = False  # the last event ended with a CR that may be half a CRLF
        self.between = True  # no unfinished event is held, and no CRLF half-way

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its blank line."""
        rest = self._rest
        if self._after_cr and data:
            self._after_cr = False
            if data[:1] == b"\n":  # the second half of the CRLF that ended the last event
                return [b"\n", *self.feed(data[1:])]
        if not rest and data[-2:] == b"\n\n" and data.find(b"\n\n") == len(data) - 2 and _CR not in data:
            self.between = True
            return [data]
        rest += data
        events = []
        start = 0
        position = self._scanned
        search = _BLANK_LINE.search
        while (found := search(rest, position)) is not None:
            position = found.end()
            events.append(bytes(rest[start:position]))
            start = position
        if start:
            self._after_cr = start == len(rest) and rest[-1] == _CR
            del rest[:start]
        # A blank line may have begun in the last three bytes; everything before is known not to.
        self._scanned = max(0, len(rest) - 3)
        if len(rest) > MAX_EVENT:
            events.append(self.take_rest())
        self.between = not rest and not self._after_cr
        return events

    def take_rest(self) -> bytes:
        """Give up what is held: the unfinished event, or nothing."""
        rest = bytes(self._rest)
        self._rest.clear()
        self._scanned = 0
        self.between = not self._after_cr
        return rest


def event_data(event: bytes) -> bytes | None:
    """The event's `data` lines joined by LF; None for comments, pings and other fields."""
    if event[:6] == b"data: " and event.find(b"\n") == len(event) - 2 and _CR not in event:
        return event[6:-2]
    lines = []
    for raw_line in event.removeprefix(_BOM).splitlines():
        if raw_line[:5] == b"data:":
            line = raw_line[5:]
            lines.append(line.removeprefix(b" "))
        elif raw_line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None


class EventKind(Enum):
    """What an event means for the commit point."""

    HELD = "held"  # nothing a reader would see: comments, pings, role-only and empty deltas
    CONTENT = "content"
    ERROR = "error"
    DONE = "done"


def parse_event(event: bytes) -> tuple[EventKind, Any]:
    """The event's kind and its parsed data (None where it has none or is no JSON).

    A malformed event is CONTENT: it passes as it is, since only the client may judge it.
    """
    data = event_data(event)
    if data is None or not data.strip():
        return EventKind.HELD, None
    if data == DONE:
        return EventKind.DONE, None
    try:
        chunk = _loads(data)
    except orjson.JSONDecodeError:
        return EventKind.CONTENT, None
    if not isinstance(chunk, dict):
        return EventKind.CONTENT, None
    # Mistral and OpenAI report a failure after the head as an event with an error object.
    if chunk.get("error") or chunk.get("object") == "error":
        return EventKind.ERROR, chunk
    choices = chunk.get("choices")
    if not choices:
        return EventKind.HELD, chunk
    if not isinstance(choices, list):
        return EventKind.CONTENT, chunk
    return (EventKind.CONTENT if any(map(has_content, choices)) else EventKind.HELD), chunk


# The fields of a delta or message that a reader would see.  `reasoning_content` and `reasoning`
# are how vLLM, DeepSeek and others name the thoughts of a model.
_VISIBLE: Final[tuple[str, ...]] = (
    "content",
    "tool_calls",
    "refusal",
    "reasoning_content",
    "reasoning",
    "function_call",
    "audio",
)


def has_content(choice: Any) -> bool:
    """Whether a choice carries text, reasoning, a tool call, a refusal, or a finish reason."""
    if not isinstance(choice, dict):
        return True
    if choice.get("finish_reason"):
        return True
    return says_something(choice.get("delta")) or bool(choice.get("text"))


def says_something(message: Any) -> bool:
    """Whether a message or delta has anything in it that a reader would see."""
    if not isinstance(message, dict):
        return False
    return any(message.get(field) for field in _VISIBLE)

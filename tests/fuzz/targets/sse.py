"""The event reader, cut anywhere, and the relay behind it.

Laws: no byte is lost or added; events and their data are those of the WHATWG's algorithm; a cut changes neither;
what the relay sends is what came in, save the usage events that it was told to take out.
"""

import asyncio
from typing import Any

from proxy.exchange.reply import Reply
from proxy.policy.snapshot import TimeoutsPolicy
from proxy.wire.sse import EventKind, EventReader, event_data, parse_event

TOKENS = (
    b"data: ", b"data:", b"data", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b":", b": ping\n\n", b"event: error\n",
    b"id: 1\n", b"\xef\xbb\xbf", b"[DONE]", b'{"choices":[{"delta":{"content":"a"}}]}', b'{"error":{}}', b'"error"',
    b'"usage":{"prompt_tokens":1}', b'{"choices":[],"usage":{"prompt_tokens":1}}', b'"choices":',
)  # fmt: skip

_BOM = b"\xef\xbb\xbf"
_TIMEOUTS = TimeoutsPolicy(*[1e9] * len(TimeoutsPolicy.__dataclass_fields__))
_LOOP = asyncio.new_event_loop()


def check(data: bytes) -> None:
    """The first byte says how the rest is cut."""
    size, raw = 1 + data[0] % 13 if data else 1, data[1:]
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    rest = reader.take_rest()
    assert b"".join(events) + rest == raw
    found = [value for event in events if (value := event_data(event)) is not None]
    if _BOM not in raw[1:]:  # we skip one before any event, the standard only the stream's first
        assert found == whatwg(raw)
    for event in events:
        kind, chunk = parse_event(event)
        assert isinstance(kind, EventKind)
        assert chunk is None or isinstance(chunk, dict)
    _check_relay(pieces, events, rest)


def whatwg(raw: bytes) -> list[bytes]:
    """The data of each event, byte by byte as HTML's §9.2.6 has it; one that the stream's end cuts off is none.

    Apart from what we need not: the data of an event that is empty is told as it is, for it is held, not dispatched.
    A CR at the very end has ended its line: nobody waits for an LF that may never come.
    """
    events: list[bytes] = []
    data: list[bytes] = []
    line = bytearray()
    after_cr = False
    for byte in raw.removeprefix(_BOM):
        if byte == 0x0A and after_cr:
            after_cr = False
            continue
        after_cr = byte == 0x0D
        if byte not in (0x0A, 0x0D):
            line.append(byte)
        elif not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        else:
            field, colon, value = bytes(line).partition(b":")
            if field == b"data":
                data.append(value[1:] if colon and value[:1] == b" " else value)
            line.clear()
    return events


class _Connection:
    """As much of an upstream's connection as a relay looks at."""

    paused = False
    last_read = 0.0

    def rearm(self) -> None:
        pass


class _Client:
    """Takes what is relayed."""

    source: Any = None

    def __init__(self) -> None:
        self.taken = b""
        self.ends: list[str] = []

    def write(self, data: bytes) -> None:
        assert not self.ends, "nothing is written behind the end"
        self.taken += data

    def end(self) -> None:
        self.ends.append("end")

    def abort(self) -> None:
        self.ends.append("abort")


def _check_relay(pieces: list[bytes], events: list[bytes], rest: bytes) -> None:
    for strip in (False, True):
        reply = Reply(_LOOP, _TIMEOUTS, 1e9)
        reply.expect_stream(strip_usage=strip)
        reply.connection = _Connection()  # type: ignore[assignment]
        reply.on_head(200, b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n")
        client: Any = _Client()
        for piece in pieces:
            reply.on_body(piece)
            if reply.settled.done() and reply.finished is None:
                reply.relay_to(client, _LOOP, 1e9)
        if reply.finished is None:
            reply.relay_to(client, _LOOP, 1e9)
        reply.on_end(framed=True)
        kept = b"".join(event for event in events if not (strip and _is_usage(event))) + rest
        assert client.taken == kept
        assert len(client.ends) == 1


def _is_usage(event: bytes) -> bool:
    _, chunk = parse_event(event)
    return chunk is not None and isinstance(chunk.get("usage"), dict) and not chunk.get("choices")

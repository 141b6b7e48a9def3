"""Messages between the proxy and its writer: tuples of plain values, each behind its length.  Pure.

Both ends are the same program on the same interpreter, so `marshal` will do: it is the fastest there is.
"""

import marshal
from typing import Any

_LENGTH = 4  # bytes, big-endian

Message = tuple[Any, ...]  # its kind first


def frame(message: Message) -> bytes:
    """The message as bytes.  Raises ValueError: it holds something that is no plain value."""
    data = marshal.dumps(message)
    return len(data).to_bytes(_LENGTH, "big") + data


class Frames:
    """Cuts a byte stream into messages; what is unfinished at its end is forgotten."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes."""
        rest = self._rest
        rest += data
        messages = []
        start = 0
        while len(rest) >= start + _LENGTH:
            end = start + _LENGTH + int.from_bytes(rest[start : start + _LENGTH], "big")
            if len(rest) < end:
                break
            messages.append(marshal.loads(rest[start + _LENGTH : end]))  # noqa: S302 of our own other half
            start = end
        del rest[:start]
        return messages

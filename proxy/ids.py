"""Ids that sort by the time at which they were made: UUIDv7 (RFC 9562 §5.7)."""

from random import getrandbits
from typing import Final

_bits: Final = getrandbits
# Ids whose last 48 bits are drawn in one go.
DRAWN_AT_ONCE: Final = 64


class Ids:
    """Makes them, random within a millisecond.

    What ids of one millisecond share is written once: its time and 26 of the 74 random bits.  The others are
    drawn for many ids at a time.
    """

    def __init__(self) -> None:
        self._millisecond = 0
        self._prefix = ""
        self._drawn = ""  # hex digits
        self._next = 0  # the first that is in no id

    def new(self, now: float) -> str:
        """An id for Unix time `now`, seconds."""
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            shared = millisecond << 32 | 0x70008000 | _bits(12) << 16 | _bits(14)
            digits = shared.to_bytes(10, "big").hex()
            self._prefix = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:]}-"
        if self._next == len(self._drawn):
            self._drawn = _bits(48 * DRAWN_AT_ONCE).to_bytes(6 * DRAWN_AT_ONCE, "big").hex()
            self._next = 0
        first = self._next
        self._next = first + 12
        return self._prefix + self._drawn[first : first + 12]


_ids: Final = Ids()


def new_id(now: float) -> str:
    """An id for Unix time `now`, seconds."""
    return _ids.new(now)


def lowest_id(time: float) -> str:
    """No id made at Unix time `time` or later is below it."""
    stamp = f"{int(time * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-"

"""Ids that sort by the time at which they were made: UUIDv7 (RFC 9562 §5.7)."""

from random import getrandbits


class Ids:
    """Makes them, random within a millisecond.

    What ids of one millisecond share is written once: its time and 26 of the 74 random bits.
    """

    def __init__(self) -> None:
        self._millisecond = 0
        self._prefix = ""

    def new(self, now: float) -> str:
        """An id for Unix time `now`, seconds."""
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._prefix = f"{lowest_id(now)}7{getrandbits(12):03x}-{0x8000 | getrandbits(14):04x}-"
        return f"{self._prefix}{getrandbits(48):012x}"


_ids = Ids()


def new_id(now: float) -> str:
    """An id for Unix time `now`, seconds."""
    return _ids.new(now)


def lowest_id(time: float) -> str:
    """No id made at Unix time `time` or later is below it."""
    stamp = f"{int(time * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-"

"""One timer per connection, re-armed lazily.

A request moves its connection's deadline many times and nearly never lets it pass.  Moving a
deadline *later* is a plain store: the armed timer fires early, sees the new deadline and sleeps
on.  So a busy connection pays for one timer per time-out period, not for one per request.

A process that was held up blames nobody: what came meanwhile lies unread in the sockets, and timers
run before those are read.  A deadline passed by more than `HELD_UP` is looked at once more, after them.
"""

import asyncio
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")
# uvloop's clock ticks in milliseconds: a timer may look up to one tick early.
TICK: Final = 0.002
# This much late, a timer says more about this process than about the peer.
HELD_UP: Final = 0.1
# Until a second look: the sockets are read in between.
SECOND_LOOK: Final = 0.01


def _nothing() -> None:
    pass


class Watchdog:
    """Calls `expired()` once the loop's clock passes `deadline` (seconds, `loop.time()`)."""

    __slots__ = ("_expired", "_handle", "_looked", "_loop", "deadline", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._handle: asyncio.TimerHandle | None = None
        self._looked = False  # this is the second look
        self.due = NEVER  # when the armed timer fires; a later deadline need only be stored
        self.deadline = NEVER

    def set(self, deadline: float) -> None:
        """Move the deadline; `NEVER` disarms."""
        self.deadline = deadline
        if deadline < self.due:
            if self._handle is not None:
                self._handle.cancel()
            self.due = deadline
            self._handle = self._loop.call_at(deadline, self._fire)

    def close(self) -> None:
        """Disarm for good: drops the references the timer holds, and the one to its owner."""
        self.deadline = NEVER
        self._expired = _nothing
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self.due = NEVER
        deadline = self.deadline
        now = self._loop.time()
        if deadline > now + TICK:
            self._looked = False
            if deadline < NEVER:
                self.set(deadline)
        elif now - deadline > HELD_UP and not self._looked:
            self._looked = True
            self.set(now + SECOND_LOOK)
        else:
            self._looked = False
            self.deadline = NEVER
            self._expired()

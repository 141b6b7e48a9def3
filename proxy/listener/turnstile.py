"""What keeps refusals from eating the time of those who are served.

A refused request was read, parsed and recorded, and so cost most of what a served one does.  Where
its client comes back at once, instead of after `Retry-After`, connections that are only refused
would take the processor from those that are let in.  So they pass a turnstile: so many go on at
once, and the others are not read until it is their turn.  Who waits as told never notices.
"""

import asyncio
from collections import deque

# Refused requests a second whose connections go on: a twentieth of a core, at most.
TURNS = 250
# … and of those that wait, where that is more: thousands do not wait for minutes.
SHARE = 0.2
# … and for each second that the processor was idle, where that is more: it takes less than half of it.
IDLE_TURNS = 2000


class Turnstile:
    """Connections that have just been refused, in order; the event loop's."""

    __slots__ = ("_free", "_held", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: deque[asyncio.Future[None]] = deque()
        self._free = 0  # turns that nobody waits for

    def __len__(self) -> int:
        return len(self._held)

    async def pass_through(self, transport: asyncio.Transport) -> None:
        """Return when it is the turn of that connection; nothing is read from it until then."""
        if self._free > 0:
            self._free -= 1
            return
        transport.pause_reading()
        turn = self._loop.create_future()
        self._held.append(turn)
        await turn
        transport.resume_reading()

    def turn(self, seconds: float, idle: float, room: int) -> None:
        """Let on whose turn has come in the last `seconds`, of which the loop was `idle` for so many.

        As many as there is `room` for requests go on in any case.
        """
        held = self._held
        turns = round(max(TURNS * seconds, len(held) * SHARE * seconds, IDLE_TURNS * idle, room))
        while held and turns > 0:
            turn = held.popleft()
            if not turn.done():  # a client may have left
                turn.set_result(None)
                turns -= 1
        self._free = turns

"""Writes gathered over one turn of the event loop, while there are several in a turn.

A write to an idle peer wakes it, and waking a process on another core costs more than the write.
Under load many requests are served in one turn: written together, they wake each peer once.  When a
turn has but one message, that is sent where it is made: what is still to be done for its request is
done while the peer wakes up.
"""

import asyncio


class Outbox:
    """Holds whole messages until the turn of the loop ends; not the only one of a turn, after such a turn."""

    __slots__ = ("_calm", "_held", "_loop", "_written")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: list[tuple[asyncio.Transport, bytes]] = []
        self._written = 0  # messages of this turn
        self._calm = True  # the last turn that had any had one

    def write(self, transport: asyncio.Transport, message: bytes) -> None:
        """Write `message` by the end of this turn; nothing else may be written there before."""
        written = self._written
        self._written = written + 1
        if not written:
            self._loop.call_soon(self._end_turn)
            if self._calm:
                _send(transport, message)
                return
        self._held.append((transport, message))

    def flush(self) -> None:
        """Write what is held now."""
        held, self._held = self._held, []
        for transport, message in held:
            _send(transport, message)

    def _end_turn(self) -> None:
        self._calm = self._written == 1
        self._written = 0
        self.flush()


def _send(transport: asyncio.Transport, message: bytes) -> None:
    try:
        transport.write(message)
    except RuntimeError:
        return  # closed since it was told to; the others' messages are written

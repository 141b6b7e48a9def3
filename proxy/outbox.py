"""Writes gathered over one turn of the event loop.

A write to an idle peer wakes it, and waking a process on another core costs more than the write.
Under load many requests are served in one turn: written together, they wake each peer once.  When
there is little to do the turn is over at once, and nothing waits.
"""

import asyncio


class Outbox:
    """Holds whole messages until the turn of the loop ends."""

    __slots__ = ("_held", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, message: bytes) -> None:
        """Write `message` at the end of this turn; nothing else may be written there before."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append((transport, message))

    def flush(self) -> None:
        """Write what is held now."""
        held, self._held = self._held, []
        for transport, message in held:
            try:
                transport.write(message)
            except RuntimeError:
                continue  # closed since it was told to; the others' messages are written

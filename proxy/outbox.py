"""What one turn of the event loop does together, and what it does at once.

A write to an idle peer wakes it, and waking a process on another core costs more than the write.
Under load many requests are served in one turn: read together, served together and written together,
they wake each peer once and keep the code of one step in the cache.  Where a turn has but one message,
nothing is gained by waiting for others: who waits for bytes goes on within the callback that brought
them, and a message is sent where it is made.
"""

import asyncio


class Outbox:
    """Holds whole messages until the turn of the loop ends; after a turn that had one, nothing waits for the first."""

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

    def wake(self, waiting: asyncio.Future[None]) -> None:
        """Let the task go on that awaits `waiting`, if it still does: at once where messages are.

        The last thing that a callback of the loop does; never what a task does for another, as one runs at a time.
        """
        if waiting.done():
            return
        callbacks = waiting._callbacks if self._calm and not self._written else None
        if callbacks is None or len(callbacks) != 1:
            waiting.set_result(None)
            return
        ((step, context),) = callbacks
        waiting.remove_done_callback(step)
        waiting.set_result(None)
        context.run(step, waiting)

    def flush(self) -> None:
        """Write what is held now."""
        held, self._held = self._held, []
        for transport, message in held:
            _send(transport, message)

    def _end_turn(self) -> None:
        self._calm = self._written == 1
        self._written = 0
        if self._held:
            self.flush()


def _send(transport: asyncio.Transport, message: bytes) -> None:
    try:
        transport.write(message)
    except RuntimeError:
        return  # closed since it was told to; the others' messages are written

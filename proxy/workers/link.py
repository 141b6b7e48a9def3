"""The pipe between the parent and a worker: messages both ways, and the end of one, which the other sees.

From the parent: accept, lead, count, whole, reload, retire, drain, hurry, notice, trip, clear.
From a worker: ready, counts, ask, draining, reloaded, notice, trip, clear.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from proxy.ledger.frames import Frames, Message, frame


class Link(asyncio.Protocol):
    """One end of it."""

    def __init__(self, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()

    def send(self, *message: object) -> None:
        """Have a message read; the other end may be gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(message))

    async def close(self) -> None:
        """Have all of it read, and no more."""
        if self._transport is not None:
            self._transport.close()
            await self.ended.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        self._on_end()

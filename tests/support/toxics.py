"""What a network does to bytes on their way: the classic faults, each of one direction of a connection.

    Latency(0.1)                          # every piece that much later
    At(re.compile(rb"\r\n\r\n"), Reset())  # well up to the end of the head, then a reset

A toxic takes the pieces that come and yields those that go on; one after the other they make a chain. One that
ends the connection never returns. `tests.support.relay` carries them out between two sockets; its `Down` is the
eighth fault, which is one of the place and not of a direction.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

Pieces = AsyncIterator[bytes]
# Where a fault strikes: behind so many bytes of the direction, or behind what matches.
Place = int | re.Pattern[bytes]

# Before a reset, bytes sent are to arrive: RST overtakes what the peer has not read yet.
ARRIVE = 0.02
# How often a `Bandwidth` lets bytes through, in seconds.
TICK = 0.02


class Link(Protocol):
    """The connection whose bytes these are, as a toxic sees it."""

    def close(self) -> None:
        """End both sides with FIN."""

    def reset(self) -> None:
        """End both sides with RST."""

    def take_down(self) -> None:
        """End both sides with FIN, and take the relay's listener away."""

    def struck(self) -> None:
        """A place has been reached."""


class Toxic(Protocol):
    """One fault of one direction."""

    def through(self, pieces: Pieces, link: Link) -> Pieces:
        """What goes on of `pieces`."""


class Latency(NamedTuple):
    """Every piece comes so many seconds later."""

    seconds: float

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del link
        async for piece in pieces:
            await asyncio.sleep(self.seconds)
            yield piece


class Bandwidth(NamedTuple):
    """So many bytes a second."""

    rate: float

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del link
        size = max(1, int(self.rate * TICK))
        async for piece in pieces:
            for start in range(0, len(piece), size):
                await asyncio.sleep(size / self.rate)
                yield piece[start : start + size]


class Slicer(NamedTuple):
    """Writes of at most `size` bytes, `pause` seconds apart."""

    size: int
    pause: float = 0.0

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del link
        async for piece in pieces:
            for start in range(0, len(piece), self.size):
                yield piece[start : start + self.size]
                await asyncio.sleep(self.pause)


class SlowClose(NamedTuple):
    """The end of the direction comes so many seconds after its last byte."""

    seconds: float

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del link
        async for piece in pieces:
            yield piece
        await asyncio.sleep(self.seconds)


class Timeout(NamedTuple):
    """Nothing gets through; the connection is closed after so many seconds, or never where they are 0."""

    seconds: float = 0.0

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        if self.seconds:
            await asyncio.sleep(self.seconds)
            link.close()
        async for _ in pieces:  # swallowed, so that who sends notices nothing
            pass
        await _for_ever()
        yield b""


class Reset(NamedTuple):
    """The connection is reset, so many seconds after what went before has arrived."""

    seconds: float = 0.0

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del pieces
        await asyncio.sleep(ARRIVE + self.seconds)
        link.reset()
        await _for_ever()
        yield b""


class LimitData(NamedTuple):
    """The connection is closed once so many bytes have passed."""

    limit: int = 0

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        left = self.limit
        while left > 0:
            piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece[:left]
            left -= len(piece)
        link.close()
        await _for_ever()


class Down(NamedTuple):
    """The peer goes away: this connection closes, and new ones are refused."""

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del pieces
        link.take_down()
        await _for_ever()
        yield b""


class Hold(NamedTuple):
    """Nothing gets through until the event is set; then all of it does."""

    until: asyncio.Event

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        del link
        await self.until.wait()
        async for piece in pieces:
            yield piece


class At(NamedTuple):
    """Well up to a place, and from there on the toxic."""

    place: Place
    toxic: Toxic

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        passed = bytearray()
        rest = b""
        end = _end(self.place, passed)
        while end is None:
            piece = await anext(pieces, None)
            if piece is None:
                return
            before = len(passed)
            passed += piece
            end = _end(self.place, passed)
            if end is None:
                yield piece
                continue
            rest = piece[end - before :]
            if end > before:
                yield piece[: end - before]
        link.struck()
        async for piece in self.toxic.through(_with(rest, pieces), link):
            yield piece


class Once(NamedTuple):
    """Well until the event is set, and from then on the toxic, be there bytes or not."""

    event: asyncio.Event
    toxic: Toxic

    async def through(self, pieces: Pieces, link: Link) -> Pieces:
        loop = asyncio.get_running_loop()
        due = loop.create_task(self.event.wait())
        coming: asyncio.Future[bytes | None] = loop.create_task(_next(pieces))
        try:
            while not due.done():
                await asyncio.wait((due, coming), return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    piece = coming.result()
                    if piece is None:
                        return
                    coming = loop.create_task(_next(pieces))
                    yield piece
            async for piece in self.toxic.through(_until_none(coming, pieces), link):
                yield piece
        finally:
            due.cancel()
            coming.cancel()


def _end(place: Place, passed: bytearray) -> int | None:
    """How many of the bytes lie before the place; None: it is still to come."""
    if isinstance(place, int):
        return place if len(passed) >= place else None
    found = place.search(passed)
    return None if found is None else found.end()


async def _next(pieces: Pieces) -> bytes | None:
    return await anext(pieces, None)


async def _until_none(first: asyncio.Future[bytes | None], pieces: Pieces) -> Pieces:
    piece = await first
    while piece is not None:
        yield piece
        piece = await anext(pieces, None)


async def _with(first: bytes, pieces: Pieces) -> Pieces:
    if first:
        yield first
    async for piece in pieces:
        yield piece


async def _for_ever() -> None:
    """Wait for the link's end to cancel this."""
    await asyncio.get_running_loop().create_future()

"""Requests at a given rate, whatever the answers take: an open loop, as callers who do not wait for each other."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# How often the requests that are due are sent, seconds.
TICK = 0.005


@dataclass(slots=True)
class Answer:
    """What came back; times are seconds.  Status 0: the connection ended before a head came."""

    status: int = 0
    whole: bool = False  # its end came, too
    seconds: float = 0.0  # from when it was due
    retry_after: bool = False
    body: bytes = b""


@dataclass(slots=True)
class Caller:
    """Connections to one address, kept while they can be used."""

    port: int
    host: str = "127.0.0.1"
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    opened: int = 0

    async def ask(self, request: bytes, due: float, leave_after: float | None = None) -> Answer:
        """Send, and read the answer; with `leave_after`, gone after that many seconds: status 499.

        Raises OSError where no connection can be had.
        """
        answer = Answer()
        reader, writer = await self._connection()
        kept = False
        try:
            async with asyncio.timeout(leave_after):
                writer.write(request)
                kept = await _read(reader, answer)
        except TimeoutError:
            answer.status = 499
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # as far as it came
        finally:
            answer.seconds = time.perf_counter() - due
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.transport.abort()
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.transport.abort()
        self.opened += 1
        return await asyncio.open_connection(self.host, self.port)

    async def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()
        await asyncio.sleep(0)


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    """A caller, closed at the end."""
    caller = Caller(port)
    try:
        yield caller
    finally:
        await caller.close()


async def _read(reader: asyncio.StreamReader, answer: Answer) -> bool:
    """Read one answer; whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    answer.status = int(head[9:12])
    answer.retry_after = b"\r\nretry-after:" in head
    _, mark, rest = head.partition(b"\r\ncontent-length:")
    if mark:
        answer.body = await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    else:
        pieces = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        answer.body = b"".join(pieces)
    answer.whole = True
    return b"\r\nconnection: close" not in head


async def offer(rate: float, seconds: float, send: Callable[[float], Awaitable[None]]) -> float:
    """Call `send(due)` `rate` times a second, at random moments, and wait for all of them.

    Returns the seconds for which requests were sent; `due` is of `time.perf_counter`.
    """
    chance = random.Random(1)
    tasks: set[asyncio.Task[None]] = set()
    started = due = time.perf_counter()
    end = started + seconds
    while due < end:
        now = time.perf_counter()
        while due <= now and due < end:
            task = asyncio.ensure_future(send(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += chance.expovariate(rate)
        await asyncio.sleep(TICK)
    took = time.perf_counter() - started
    await asyncio.gather(*tasks)
    return took

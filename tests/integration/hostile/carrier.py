"""One stream of bytes after the other to a proxy, each on a connection of its own, and all that comes of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

from tests.support.lane import Lane, policy_of, running
from tests.support.raw_upstream import Answer, RawUpstream, Read

PATIENCE = 5.0  # seconds until an answer that should be there is missed


class Carried(NamedTuple):
    """What came of the bytes of one connection."""

    answer: bytes  # all that the client got
    ended: bool  # by the proxy
    sent: list[bytes]  # whole requests that the upstream has read meanwhile
    log: list[str]
    records: int


class Carrier:
    """A proxy between a client and an upstream, for any number of connections."""

    def __init__(self, lane: Lane, upstream: RawUpstream) -> None:
        self.lane = lane
        self.upstream = upstream
        self._log = _Lines()

    async def carry(self, data: bytes, *, cut: int = 0, leave: bool = False) -> Carried:
        """Send bytes, in two pieces where `cut` is not 0, and read until the proxy closes; `leave`: close first."""
        sent, lines, records = len(self.upstream.requests), len(self._log.lines), len(self.lane.records)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(_Client, self.lane.host, self.lane.port)
        transport = client.transport
        transport.write(data[:cut] if cut else data)
        if cut:
            for _ in range(4):
                await asyncio.sleep(0)
            if not transport.is_closing():  # it was refused already
                transport.write(data[cut:])
        if leave and not transport.is_closing():
            transport.write_eof()
        try:
            async with asyncio.timeout(PATIENCE):
                await client.lost.wait()
            ended = True
        except TimeoutError:
            transport.abort()
            await client.lost.wait()
            ended = False
        await self.lane.idle()
        return Carried(
            bytes(client.got),
            ended,
            self.upstream.requests[sent:],
            self._log.lines[lines:],
            len(self.lane.records) - records,
        )


class _Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.got = bytearray()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class _Lines(logging.Handler):
    """The lines of the log, with their tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@asynccontextmanager
async def carrying(answer: Answer, **changes: Any) -> AsyncIterator[Carrier]:
    """A carrier whose upstream answers each request so; `changes` are the policy's, as `policy_of` takes them."""
    log = logging.getLogger("splitlane")
    async with (
        RawUpstream([Read(), answer]) as upstream,
        running(policy_of(upstream.url, **changes)) as lane,
    ):
        carrier = Carrier(lane, upstream)
        log.addHandler(carrier._log)
        try:
            yield carrier
        finally:
            log.removeHandler(carrier._log)

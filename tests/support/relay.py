"""A TCP relay that makes the network between two sockets as bad as asked.

    async with RawUpstream([...]) as up, Relay(up.port, response=[Slicer(7), At(300, Reset())]) as network:
        ...  # connect to network.url instead of up.url

It knows nothing of HTTP, so it stands as well between a client and the proxy as between the proxy and an upstream.
Toxics (`tests.support.toxics`) are given for each direction, or by a callable for each connection, by its number
from 1. A half-close is passed on; a connection that the one side resets is reset on the other.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from proxy.stub.http import reset
from tests.support.toxics import Pieces, Toxic

_PIECE = 1 << 16


class Network(NamedTuple):
    """The toxics of one connection."""

    request: Sequence[Toxic] = ()  # from who connects
    response: Sequence[Toxic] = ()  # to it


class Relay:
    """The listener; `port` is where it listens, `target` the port on this machine that it leads to."""

    def __init__(
        self,
        target: int,
        *,
        request: Sequence[Toxic] = (),
        response: Sequence[Toxic] = (),
        choose: Callable[[int], Network] | None = None,
    ) -> None:
        self.target = target
        self.host = "127.0.0.1"
        self.port = 0
        self.accepted = 0  # connections ever
        self.links: set[Link] = set()  # that are open
        self.struck = asyncio.Event()  # some connection has reached the place of a fault
        self._choose = choose or (lambda _: Network(request, response))
        self._place: socket.socket | None = None  # keeps the port ours while nobody listens on it
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._wrong: list[BaseException] = []

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything, and raise what went wrong in here."""
        self.down()
        if self._place is not None:
            self._place.close()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._wrong and kind is None:
            raise self._wrong[0]

    async def up(self) -> None:
        """Listen, on the same port as before."""
        if self._place is None:
            self._place = self._bound()
            self.port = self._place.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=self._bound(), backlog=1024)

    def _bound(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((self.host, self.port))
        return sock

    def down(self) -> None:
        """Close the listener and what is open, with FIN."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self.links):
            link.close()

    def reset(self) -> None:
        """Reset what is open; new connections are accepted."""
        for link in list(self.links):
            link.reset()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        work = asyncio.get_running_loop().create_task(self._serve(self.accepted, reader, writer))
        self._serving.add(work)
        work.add_done_callback(self._served)

    def _served(self, work: asyncio.Task[None]) -> None:
        self._serving.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            self._wrong.append(error)

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            reset(writer.transport)
            return
        link = Link(self, (writer, to_writer))
        self.links.add(link)
        network = self._choose(number)
        try:
            await link.carry(
                _chain(_pieces(reader), network.request, link), _chain(_pieces(to_reader), network.response, link)
            )
        finally:
            self.links.discard(link)


class Link:
    """One connection, with both its sockets."""

    def __init__(self, relay: Relay, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._relay = relay
        self._writers = writers
        self._carrying: list[asyncio.Task[None]] = []

    async def carry(self, request: Pieces, response: Pieces) -> None:
        """Carry bytes both ways, until both have ended or the link was ended."""
        client, server = self._writers
        loop = asyncio.get_running_loop()
        self._carrying = [
            loop.create_task(self._carry(request, server), name="relay-request"),
            loop.create_task(self._carry(response, client), name="relay-response"),
        ]
        outcomes = await asyncio.gather(*self._carrying, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._stop()

    def reset(self) -> None:
        for writer in self._writers:
            reset(writer.transport)
        self._stop()

    def take_down(self) -> None:
        self._relay.down()

    def struck(self) -> None:
        self._relay.struck.set()

    def _stop(self) -> None:
        for task in self._carrying:
            task.cancel()

    async def _carry(self, pieces: Pieces, writer: asyncio.StreamWriter) -> None:
        try:
            async for piece in pieces:
                if writer.is_closing():  # uvloop would raise something else
                    raise ConnectionResetError
                writer.write(piece)
                await writer.drain()
            if not writer.is_closing():
                writer.write_eof()
        except OSError:  # one side is gone: so is the other
            self.reset()


def _chain(pieces: Pieces, toxics: Sequence[Toxic], link: Link) -> Pieces:
    for toxic in toxics:
        pieces = toxic.through(pieces, link)
    return pieces


async def _pieces(reader: asyncio.StreamReader) -> Pieces:
    while piece := await reader.read(_PIECE):
        yield piece

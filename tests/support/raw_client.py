"""A client that sends the bytes it is given and keeps what arrives, with the way it ended.

    async with RawClient("127.0.0.1", port) as client:
        await client.send(request("POST", "/v1/chat/completions", b"{}"))
        answer = await client.read_response()

Every read gives up after `timeout` seconds with TimeoutError.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from proxy.stub.http import reset

TIMEOUT = 5.0


class Piece(NamedTuple):
    """One HTTP chunk of a body, or what one read gave; `time` is Unix seconds."""

    time: float
    data: bytes


class RawHead(NamedTuple):
    """A response's head, names and values as they came."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of every header of that name, in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of that name."""
        return next(iter(self.all(name)), None)


class RawResponse(NamedTuple):
    """A response, de-chunked; `clean_end` is False where the connection ended before the body did."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    clean_end: bool
    pieces: list[Piece]
    head: RawHead


def request(
    method: str, target: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = (), host: str = "localhost"
) -> bytes:
    """Return a request with a Content-Length, where it has a body."""
    fields = [("Host", host), *headers]
    if body:
        fields.append(("Content-Length", str(len(body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


class RawClient:
    """One connection.

    A small `receive_buffer` (bytes) makes a reader that stops felt early; `source` is the client's own address.
    """

    def __init__(
        self, host: str, port: int, *, timeout: float = TIMEOUT, receive_buffer: int | None = None, source: str = ""
    ) -> None:
        self.host = host
        self.port = port
        self._timeout = timeout
        self._receive_buffer = receive_buffer
        self._source = source

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            if self._source:
                sock.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
        except BaseException:  # cancelled, too
            sock.close()
            raise
        limit = self._receive_buffer or 1 << 20
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, data: bytes, size: int = 0, pause: float = 0.0) -> None:
        """Write bytes; in writes of `size` bytes with `pause` seconds between them, where size is not 0."""
        for start in range(0, len(data), size or len(data) or 1):
            if start:
                await asyncio.sleep(pause)
            self._writer.write(data[start : start + size] if size else data)
            await self._writer.drain()

    async def read_head(self) -> RawHead:
        """Read a head; interim responses (1xx) are read like any other.

        Raises:
            asyncio.IncompleteReadError: the peer closed instead.
            ConnectionResetError: the peer reset instead.

        """
        async with asyncio.timeout(self._timeout):
            raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].split(b"\r\n")
        _, status, reason = (*first.split(b" ", 2), b"")[:3]
        fields = [line.partition(b":") for line in lines]
        return RawHead(int(status), reason, [(name, value.strip(b" \t")) for name, _, value in fields])

    async def read_chunk(self) -> bytes | None:
        """Read one HTTP chunk; empty: the terminating one, None: the connection ended first."""
        try:
            async with asyncio.timeout(self._timeout):
                line = await self._reader.readuntil(b"\r\n")
                size = int(line.partition(b";")[0], 16)
                if size:
                    return (await self._reader.readexactly(size + 2))[:-2]
                while await self._reader.readuntil(b"\r\n") != b"\r\n":
                    pass  # trailers
                return b""
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def read_response(self, *, no_body: bool = False) -> RawResponse:
        """Read one response, without the interim ones before it; `no_body`: the request was a HEAD.

        Raises:
            asyncio.IncompleteReadError: the peer closed before the end of the head.
            ConnectionResetError: the peer reset before it.

        """
        head = await self.read_head()
        while head.status < 200:
            head = await self.read_head()
        pieces: list[Piece] = []
        length = head.get(b"content-length")
        if no_body or head.status in (204, 304):
            clean = True
        elif (head.get(b"transfer-encoding") or b"").lower().endswith(b"chunked"):
            while data := await self.read_chunk():
                pieces.append(Piece(time.time(), data))
            clean = data is not None
        else:
            clean = await self._read_plain(None if length is None else int(length), pieces)
        body = b"".join(piece.data for piece in pieces)
        return RawResponse(head.status, head.headers, body, clean, pieces, head)

    async def _read_plain(self, length: int | None, pieces: list[Piece]) -> bool:
        """Read a body of that length, or up to the end of the connection; return whether it is whole."""
        left = length
        while left is None or left > 0:
            try:
                data = await self.read(1 << 16 if left is None else left)
            except ConnectionError:
                return False
            if not data:
                return left is None
            pieces.append(Piece(time.time(), data))
            left = None if left is None else left - len(data)
        return True

    async def read(self, most: int = 1 << 16) -> bytes:
        """Read what is there; empty: the peer has closed."""
        async with asyncio.timeout(self._timeout):
            return await self._reader.read(most)

    async def read_until_idle(self, quiet: float = 0.2) -> bytes:
        """Read until nothing has come for `quiet` seconds, or the connection has ended."""
        collected = b""
        try:
            while True:
                async with asyncio.timeout(quiet):
                    data = await self._reader.read(1 << 16)
                if not data:
                    return collected
                collected += data
        except (TimeoutError, ConnectionError):
            return collected

    async def wait_closed(self) -> str:
        """Read until the connection ends, and return how: `fin` or `rst`."""
        try:
            while await self.read():
                pass
        except ConnectionError:
            return "rst"
        return "fin"

    def half_close(self) -> None:
        """Send FIN; reading goes on."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Send RST."""
        reset(self._writer.transport)

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the peer was faster
            await self._writer.wait_closed()

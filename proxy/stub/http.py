"""HTTP/1.1 on one connection, with the socket in reach.

A protocol of our own instead of a web framework: faults need resets before the headers, halves of
answers and the moment at which the client hangs up, and frameworks hide exactly these.
"""

import asyncio
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import NamedTuple, cast

import httptools

from proxy.tasks import spawn

Headers = Iterable[tuple[str, str]]

# A client that pipelines deeper than this is broken; the queue must not grow with it.
MAX_PIPELINED = 32

_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One request, complete."""

    connection: int
    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    chunked_ok: bool  # the client speaks HTTP/1.1
    keep_alive: bool

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of that lower-case name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


Handler = Callable[[Request, "Connection"], Awaitable[None]]


def reset(transport: asyncio.BaseTransport) -> None:
    """End a TCP connection with RST: the peer sees a reset, whatever it has not read is lost."""
    if not transport.is_closing():  # else its descriptor may be another connection's by now
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast("asyncio.WriteTransport", transport).abort()


class Connection(asyncio.Protocol):
    """One accepted connection: requests in, one after the other, and answers out.

    `handler` is run for one request at a time and writes the answer through `start`, `send` and
    `end`. It is cancelled the moment the client leaves; `gone_at` then says when that was.
    """

    def __init__(
        self, number: int, handler: Handler, watch: Callable[["Connection", bool], None], max_body: int
    ) -> None:
        """`watch` is told when the connection opens (True) and when it is gone (False)."""
        self.number = number
        self.gone_at: float | None = None  # Unix seconds: the client closed first
        self.task: asyncio.Task[None] | None = None
        self._handler = handler
        self._watch = watch
        self._max_body = max_body
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._chunked = False
        self._refused = 0  # status for a request that is not worth reading on; 0: none
        self._answering = False
        self._ours = False  # we close, so the loss of the connection is not the client's doing

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; called once."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # what `send` has written, the kernel has
        self._writable = asyncio.Event()
        self._writable.set()
        self._watch(self, True)

    def data_received(self, data: bytes) -> None:
        """Parse, and start the handler where a request is complete."""
        if self._refused or self._ours:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered like any request; it says close, as nothing after it can be parsed
        except httptools.HttpParserError:
            self._refused = self._refused or HTTPStatus.BAD_REQUEST
        if len(self._waiting) > MAX_PIPELINED:
            self._refused = HTTPStatus.TOO_MANY_REQUESTS
        if self.task is None and (self._waiting or self._refused):
            self.task = spawn(self._serve(), f"stub-connection-{self.number}")

    def eof_received(self) -> bool:
        """Take a half-close as leaving: nobody who wants the answer sends one."""
        self._client_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the handler; called once."""
        self._client_left()
        self._writable.set()
        self._watch(self, False)

    def pause_writing(self) -> None:
        """Make `send` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let `send` go on."""
        self._writable.set()

    def _client_left(self) -> None:
        if not self._ours and self.gone_at is None:
            self.gone_at = time.time()
        if self.task is not None:
            self.task.cancel()

    # what the parser calls

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self._target, self._headers, self._body = b"", [], bytearray()

    def on_url(self, url: bytes) -> None:
        """Collect the target; it may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header or a trailer."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Ask for the body where the client waits to be asked."""
        if any(key.lower() == b"expect" and value.lower() == b"100-continue" for key, value in self._headers):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body, within the limit."""
        if len(self._body) + len(body) > self._max_body:
            self._refused = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Queue the request."""
        if self._refused:
            return
        upgrade = self._parser.should_upgrade()
        request = Request(
            self.number,
            self._parser.get_method().decode("latin-1"),
            self._target,
            tuple(self._headers),
            bytes(self._body),
            self._parser.get_http_version() == "1.1",
            self._parser.should_keep_alive() and not upgrade,
        )
        self._waiting.append(request)

    # what the handler calls

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Write the head; `length` of the body in bytes, None: chunked (HTTP/1.0: until close)."""
        request = self._request
        keep_alive = request.keep_alive
        self._chunked = False
        framing: list[tuple[str, str]] = []
        if length is not None:
            framing = [("content-length", str(length))]
        elif request.chunked_ok:
            framing, self._chunked = [("transfer-encoding", "chunked")], True
        else:
            keep_alive = False
        if not keep_alive:
            framing.append(("connection", "close"))
        self._keep_alive = keep_alive
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, *framing))
        await self._write(f"HTTP/1.1 {status} {_reason(status)}\r\n{lines}\r\n".encode("latin-1"))

    async def send(self, data: bytes) -> None:
        """Write a piece of the body; waits where the client reads more slowly than we write."""
        if not data or self._request.method == "HEAD":
            return
        await self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """Finish the answer cleanly."""
        if self._chunked and self._request.method != "HEAD":
            await self._write(b"0\r\n\r\n")
        if not self._keep_alive:
            self.close()

    def close(self) -> None:
        """Write what is left, then end the connection with FIN."""
        self._ours = True
        self._transport.close()

    def abort(self) -> None:
        """End the connection with RST, now."""
        self._ours = True
        reset(self._transport)

    async def _write(self, data: bytes) -> None:
        self._transport.write(data)
        await self._writable.wait()

    async def _serve(self) -> None:
        """Answer the waiting requests in their order."""
        try:
            while self._waiting and not self._ours:
                self._request = self._waiting.popleft()
                await self._handler(self._request, self)
            if self._refused and not self._ours:
                self._refuse(self._refused)
        except Exception:
            _log.exception("stub: connection %d", self.number)
            self.abort()
        finally:
            self.task = None

    def _refuse(self, status: int) -> None:
        head = f"HTTP/1.1 {status} {_reason(status)}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self._transport.write(head.encode())
        self.close()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"

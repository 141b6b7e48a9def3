"""One client connection: aiohttp's parser in front, the exchange behind, nothing in between.

aiohttp owns the socket, parses requests and applies flow control to bodies.  Its Request and
Response objects, its task per request and its error pages stay out of the path: `start`, its
per-connection loop, is overridden, and this object itself is the exchange's `Client`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from aiohttp.http import HttpVersion10
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from proxy.exchange.call import Refusal
from proxy.exchange.client import Client, Source
from proxy.policy.snapshot import LimitsPolicy
from proxy.watchdog import NEVER, Watchdog
from proxy.wire.errors import ErrorAnswer, bad_request
from proxy.wire.headers import Field
from proxy.words import Failure

log = logging.getLogger("splitlane.listener")

# Longer than any client pool keeps idle connections, so that the client closes first and never
# sends into a closing one.
KEEPALIVE = 620.0
# How long a refused request's remaining bytes are read and dropped: closing at once would reset
# the connection and take the answer with it.
LINGER = 2.0
# Bodies from here on are written by themselves: joining them to the head would copy them.
LARGE = 64 * 1024

_STATUS_LINE = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLOSE = b"Connection: close\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

_MALFORMED = bad_request("the request is not valid HTTP/1.1")
_TARGET = bad_request("the request target must be a path")
_METHOD = bad_request("the method is not supported", status=405)
_CODING = bad_request("the only transfer coding supported is `chunked`", status=501)
_SLOW_HEAD = bad_request("the request's head took too long", "request_timeout", 408)
_SLOW_BODY = bad_request("the request's body took too long", "request_timeout", 408)
_BODY = bad_request("the request's body is not valid HTTP/1.1")


class DataServer(Server):
    """Makes a `Connection` per socket; knows whether the process is draining."""

    def __init__(
        self,
        handle: Callable[[Client], Awaitable[None]],
        limits: Callable[[], LimitsPolicy],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(self._unused, handler_cancellation=True, loop=loop)
        self.handle = handle
        self.limits = limits
        self.draining = False
        self.open: set[ClientConnection] = set()

    def __call__(self) -> "ClientConnection":
        return ClientConnection(self, self._loop)

    async def _unused(self, request: BaseRequest) -> StreamResponse:
        raise AssertionError("ClientConnection.start never makes a request object")


class ClientConnection(RequestHandler):
    """A client's connection, and the `Client` of the request it is serving."""

    __slots__ = (
        "_chunked", "_dog", "_head_begun", "_keep", "_lingering", "_payload", "_reading_body", "_server",
        "content_length", "expects_continue", "fields", "http_10", "method", "serving", "source", "started",
        "stopping", "target",
    )  # fmt: skip

    def __init__(self, server: DataServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=0,  # our watchdog's
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            max_line_size=16 * 1024,
            max_field_size=32 * 1024,  # baggage and tokens grow long
        )
        self._server = server
        self._dog = Watchdog(loop, self._expired)
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._head_begun = False
        self._lingering = False
        self._reading_body = False
        self._chunked = False
        self._keep = True
        self.serving = False
        self.stopping = False
        self.started = False
        self.source: Source | None = None
        self.method = ""
        self.http_10 = False
        self.target = b""
        self.fields: Sequence[Field] = ()
        self.content_length = 0
        self.expects_continue = False

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server.open.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.open.discard(self)
        self._dog.close()
        self.source = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        super().data_received(data)
        if not self._head_begun and self._waiter is not None and not self._waiter.done():
            # The beginning of a head, and no more: from here its time runs.
            self._head_begun = True
            self._dog.set(self._loop.time() + self._server.limits().request_headers)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.source is not None:
            self.source.pause_reading()
        self._dog.set(self._loop.time() + self._server.limits().write_stall)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._dog.deadline = NEVER
        if self.source is not None:
            self.source.resume_reading()

    # --- the per-connection loop --------------------------------------------------------------

    async def start(self) -> None:
        """Serve requests until the connection is not to be used again."""
        dog, loop, messages = self._dog, self._loop, self._messages
        while self._keep and not self._force_close:
            if not messages:
                dog.set(loop.time() + KEEPALIVE)
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            dog.deadline = NEVER
            message, self._payload = messages.popleft()
            parser = self._parser
            if parser is None:
                return
            parser.message_consumed()
            if self._buffer_paused and len(messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            self.serving = True
            if self._read_message(message):
                await self._server.handle(self)
            self.serving = False
            self._head_begun = self._reading_body = False
        self._finish()

    def _read_message(self, message: object) -> bool:
        """Take over the head; False where it was refused here."""
        self.started = self._chunked = False
        if not isinstance(message, RawRequestMessage):
            log.warning("refused a malformed request")
            return self._refuse(_MALFORMED)
        self.method = message.method
        self.http_10 = message.version == HttpVersion10
        self._keep = not (message.should_close or self.http_10 or message.upgrade or self._upgraded)
        self.fields = message.raw_headers
        target = message.path.encode("utf-8", "surrogateescape")
        if not target.startswith(b"/"):
            # Absolute form (RFC 9112 §3.2.2): its host is not looked at, the upstream is the policy's.
            scheme, mark, rest = target.partition(b"://")
            slash = rest.find(b"/")
            if scheme.lower() not in (b"http", b"https") or not mark or slash < 0:
                return self._refuse(_TARGET)
            target = rest[slash:]
        self.target = target
        if self.method not in _METHODS:
            return self._refuse(_METHOD)
        headers = message.headers
        self.content_length = 0
        if message.chunked:
            if headers.get("Transfer-Encoding", "").strip().lower() != "chunked":
                return self._refuse(_CODING)
            self.content_length = -1
        elif self._payload is not EMPTY_PAYLOAD:
            self.content_length = int(headers.get("Content-Length", "0"))
        self.expects_continue = "Expect" in headers and not self.http_10
        return True

    def _refuse(self, answer: ErrorAnswer) -> bool:
        self._keep = False
        self.respond(answer.status, answer.fields(), answer.body())
        return False

    # --- Client -------------------------------------------------------------------------------

    def body_if_whole(self) -> bytes | None:
        payload = self._payload
        if payload is EMPTY_PAYLOAD:
            return b""
        if not payload.is_eof() or payload.exception() is not None:
            return None
        return payload.read_nowait(-1)

    async def body_chunk(self) -> bytes:
        if not self._reading_body:
            self._reading_body = True
            self._dog.set(self._loop.time() + self._server.limits().request_body)
        try:
            piece = await self._payload.readany()
        except _SlowBody:
            raise Refusal(_SLOW_BODY, Failure.BAD_REQUEST) from None
        except Exception as error:
            log.warning("refused a malformed request body")
            raise Refusal(_BODY, Failure.BAD_REQUEST) from error
        if not piece:
            self._dog.deadline = NEVER
        return piece

    def body_progressed(self) -> None:
        self._reading_body = False

    def send_continue(self) -> None:
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def respond(self, status: int, fields: bytes, body: bytes) -> None:
        bodyless = self.method == "HEAD" or status in (204, 304)
        head = self._head(status, fields, b"" if bodyless else b"Content-Length: %d\r\n" % len(body))
        transport = self.transport
        if transport is None:
            return
        if bodyless:
            transport.write(head)
        elif len(body) < LARGE:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def start_stream(self, status: int, fields: bytes, length: int | None) -> None:
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        elif self.http_10:
            framing = b""
        else:
            framing = _CHUNKED
            self._chunked = True
        head = self._head(status, fields, framing)
        if self.transport is not None:
            self.transport.write(head)

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        if self._chunked and self.transport is not None:
            self.transport.write(b"0\r\n\r\n")

    def abort(self) -> None:
        self._keep = False
        if self.transport is not None and not self._chunked and self.http_10:
            # Nothing else tells an HTTP/1.0 client that the body is short.
            self.transport.abort()

    # --- inside -------------------------------------------------------------------------------

    def _head(self, status: int, fields: bytes, framing: bytes) -> bytes:
        self.started = True
        if self._server.draining or not self._payload.is_eof():
            self._keep = False
        line = _STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status
        return b"%b%b%b%b\r\n" % (line, fields, framing, b"" if self._keep else _CLOSE)

    def _finish(self) -> None:
        """Close once all is written; first drop what the client is still sending."""
        transport = self.transport
        if transport is None:
            return
        if not self._payload.is_eof() and transport.can_write_eof() and not transport.is_closing():
            self._lingering = True
            transport.write_eof()
            transport.resume_reading()
            self._dog.set(self._loop.time() + LINGER)
            return
        transport.close()
        self._dog.set(self._loop.time() + self._server.limits().write_stall)

    def stop(self) -> None:
        """The process ends: cut what is in flight."""
        self.stopping = True
        if self._task_handler is not None:
            self._task_handler.cancel()
        if self.transport is not None:
            self.transport.abort()

    def close_idle(self) -> None:
        """Close the connection if no request is on it."""
        if not self.serving and not self._messages and not self._head_begun and self.transport is not None:
            self._keep = False
            self.transport.close()

    def _expired(self) -> None:
        transport = self.transport
        if transport is None:
            return
        if self._reading_body and not self.started:
            self._payload.set_exception(_SlowBody())
        elif self._head_begun and not self.serving:
            self._refuse(_SLOW_HEAD)
            transport.close()
        else:
            transport.abort()


class _SlowBody(Exception):
    """The body's time limit passed."""

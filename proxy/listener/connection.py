"""One client connection: llhttp in front, the exchange behind, nothing in between.

Laws: requests are served one at a time, in order; what arrives meanwhile waits, bounded; bytes that
cannot be framed with certainty end the connection, after an answer; a response is complete, or
visibly not.

aiohttp's connection makes a Request, a StreamReader and a parsed URL of every request, which took
a third of the time of one here; it serves the admin listener, where that does not matter.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import Final, cast

import httptools

from proxy.exchange.client import Source
from proxy.listener.listener import Listener
from proxy.listener.request import ClientRequest
from proxy.tasks import spawn
from proxy.watchdog import NEVER, Watchdog
from proxy.wire.errors import ErrorAnswer, bad_request
from proxy.wire.headers import Field

log: Final = logging.getLogger("splitlane.listener")

# Longer than any client pool keeps idle connections, so that the client closes first and never
# sends into a closing one.
KEEPALIVE: Final = 620.0
# How long a refused request's remaining bytes are read and dropped: closing at once would reset
# the connection and take the answer with it.
LINGER: Final = 2.0
# Unread bytes of a body, and requests behind the one being served, beyond which nothing is read.
BODY_AHEAD: Final = 256 * 1024
REQUESTS_AHEAD: Final = 16
# A head may be this long: tokens and baggage grow, but not without end.
MAX_HEAD: Final = 64 * 1024

_NO_PARSER: Final = httptools.HttpRequestParser(object())
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all
_MALFORMED: Final = bad_request("the request is not valid HTTP/1.1")
_HEAD_TOO_LARGE: Final = bad_request("the request's head is too large", "head_too_large", 431)
_SLOW_HEAD: Final = bad_request("the request's head took too long", "request_timeout", 408)
_SLOW_BODY: Final = bad_request("the request's body took too long", "request_timeout", 408)


class ClientConnection(asyncio.Protocol):
    """A client's connection.  The httptools parser calls the methods named like its callbacks."""

    __slots__ = (
        "_arriving", "_broken", "_deaf", "_dog", "_fields", "_fresh", "_handle", "_head", "_heading", "_lingering",
        "_loop",
        "_parser", "_paused", "_request", "_stalled", "_task", "_unsent", "_url", "_waiting", "_wake", "listener",
        "source", "stopping", "transport",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._loop = listener.loop
        self._parser = httptools.HttpRequestParser(self)
        self._dog = Watchdog(listener.loop, self._expired)
        self._url = b""
        self._fields: list[Field] = []
        self._fresh = True  # no head has come yet
        self._heading = False  # a head has begun and is not complete
        self._head = 0  # bytes read since it began
        self._arriving: ClientRequest | None = None  # whose body is not complete
        self._waiting: deque[ClientRequest] = deque()
        self._request: ClientRequest | None = None  # being served
        self._wake: asyncio.Future[None] | None = None  # what the task waits for
        self._task: asyncio.Task[None] | None = None
        self._broken: ErrorAnswer | None = None  # the answer to bytes that are no request
        self._paused = False
        self._stalled = False  # the client reads too slowly, or not at all
        self._unsent = 0  # bytes it had not taken when last looked at
        self._lingering = False
        self._deaf = False  # what still comes is dropped: the connection is broken, or lingers
        self.source: Source | None = None
        self.stopping = False
        self.transport = cast("asyncio.Transport", None)  # set before anyone sees the connection

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        listener = self.listener
        count, room = len(listener.open), listener.room
        if count >= room:
            self._deaf = True
            listener.turn_away(self.transport)
            return
        listener.open.add(self)
        self.look_at_peer()
        self._dog.set(self._loop.time() + (KEEPALIVE if count < room // 2 else listener.limits().request_headers))
        self._task = spawn(self._serve(), "client connection")

    def eof_received(self) -> None:
        # A client that closes its half has left: its answer, if any, has nobody to read it.
        if not self._lingering:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.open.discard(self)
        self._dog.close()
        self.source = None
        # What held us, as we held it: no connection waits for the garbage collector.
        self._parser = _NO_PARSER
        self._request = self._arriving = None
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            if len(data) > MAX_HEAD and self._arriving is None and data.find(b"\r\n\r\n", 0, MAX_HEAD) < 0:
                self._break(_HEAD_TOO_LARGE)
            else:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._break(_MALFORMED)
        if self._heading:
            if not self._head and self._request is None:
                self._dog.set(self._loop.time() + self.listener.limits().request_headers)
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._break(_HEAD_TOO_LARGE)
        if self._wake is not None and (self._waiting or self._request is not None or self._broken is not None):
            self.listener.outbox.wake(self._wake)

    def pause_writing(self) -> None:
        if self.source is not None:
            self.source.pause_reading()
        self._stalled = True
        self._unsent = self.transport.get_write_buffer_size()
        self._dog.set(self._loop.time() + self.listener.limits().write_stall)

    def resume_writing(self) -> None:
        self._stalled = False
        self._dog.deadline = NEVER
        if self.source is not None:
            self.source.resume_reading()
        self._wake_up()

    # --- httptools callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._heading = self._arriving is None
        if self._heading and (self._waiting or self._request is not None):
            self._keep_version()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._arriving is None:  # else a trailer, which nobody asked for
            self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._arriving is not None:
            return  # a declined upgrade's body: its head was read before
        parser = self._parser
        request = ClientRequest(self, parser.get_method(), self._url, self._fields)
        self._url, self._fields = b"", []
        self._heading = False
        self._head = 0
        keep = parser.should_keep_alive()
        if self._fresh or not keep:
            # Not asked of each request, as it costs a string: a client speaks one version.
            self._fresh = False
            request.keep = keep
            if parser.get_http_version() not in ("1.0", "1.1"):
                raise httptools.HttpParserError("version")
        self._arriving = request
        self._waiting.append(request)

    def on_body(self, data: bytes) -> None:
        request = self._arriving
        if request is not None:
            request.add(data)
            if request.size > BODY_AHEAD:
                self._pause_reading()

    def on_message_complete(self) -> None:
        request = self._arriving
        if request is not None:
            request.whole = True
            self._arriving = None
            if len(self._waiting) > REQUESTS_AHEAD:
                self._pause_reading()

    # --- the connection's task ----------------------------------------------------------------

    async def _serve(self) -> None:
        """Serve until the connection is not to be used again, then close it."""
        loop, waiting = self._loop, self._waiting
        try:
            while True:
                while not waiting or self._stalled:
                    if self._broken is not None and not self._stalled:
                        self._refuse(self._broken)
                        return
                    self._wake = wake = loop.create_future()
                    await wake
                self._wake = None
                self._dog.deadline = NEVER
                request = self._request = waiting.popleft()
                if self._paused:
                    self.resume_reading()
                if request.target[:1] != b"/" or request.method != b"POST":
                    refusal = request.refusal()
                    if refusal is not None:
                        log.warning("refused a request")
                        self._refuse(refusal)
                        return
                await self._handle(request)
                self._request = None
                if not request.keep or self.transport.is_closing():
                    if request.cut and request.http_10:
                        # Nothing but a reset tells an HTTP/1.0 client that the body is short.
                        self._reset()
                    else:
                        self._close(read_on=not request.whole)
                    return
                if request.crowded_out:
                    await self.listener.turnstile.pass_through(self.transport)
                del request  # not held while the connection waits for its next
                if not waiting and not self._stalled:
                    patience = self.listener.limits().request_headers if self._heading else KEEPALIVE
                    self._dog.set(loop.time() + patience)
        except asyncio.CancelledError:
            # The client left, or the process ends; what the exchange still had to say is written.
            self.listener.outbox.flush()
            self.transport.close()
            self._dog.set(loop.time() + LINGER)

    async def more(self) -> None:
        """Wait until something has arrived."""
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    # --- used by the request being served -----------------------------------------------------

    def start_body_time(self) -> None:
        """From now on the body has its time limit."""
        self._dog.set(self._loop.time() + self.listener.limits().request_body)

    def end_body_time(self) -> None:
        """The body is complete."""
        self._dog.deadline = NEVER

    @property
    def http_10(self) -> bool:
        """Whether what was read last is HTTP/1.0: asked only where it matters, as it costs a string."""
        return self._parser.get_http_version() == "1.0"

    def resume_reading(self) -> None:
        """Room has been made for more."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    # --- used by the service ------------------------------------------------------------------

    def look_at_peer(self) -> None:
        """Decide who serves this peer's requests from the next one on."""
        self._handle = self.listener.handler(self.transport)

    # --- used by the drain --------------------------------------------------------------------

    def stop(self) -> None:
        """The process ends: cut what is in flight."""
        self.stopping = True
        if self._task is not None:
            self._task.cancel()

    def close_idle(self) -> None:
        """Close the connection if no request is on it, or on its way."""
        if self._request is None and not self._waiting and not self._heading:
            self.listener.outbox.flush()  # its last answer may be in there
            self.transport.close()

    # --- inside -------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _break(self, answer: ErrorAnswer) -> None:
        """What came is no HTTP: answer what was whole before it, then that, then close."""
        if self._broken is not None:
            return
        self._deaf = True
        last = self._waiting[-1] if self._waiting else self._request
        if last is not None and not last.keep and self._arriving is None:
            return  # it came behind the connection's last request, and is nobody's
        self._broken = answer
        if self._arriving is not None:
            self._arriving.break_off()
        else:
            log.warning("refused a malformed request")

    def _keep_version(self) -> None:
        """The parser is about to forget the version of the request before, which is not answered yet."""
        request = self._waiting[-1] if self._waiting else self._request
        if request is not None and request.old is None:
            request.old = self._parser.get_http_version() == "1.0"

    def _decline_upgrade(self, rest: bytes) -> None:
        """Serve a request that asks for another protocol as if it did not, and as the last one.

        The parser stops at such a request's head, whatever body it announces; that body is framed
        by another parser, from a head that says only its length.
        """
        request = self._waiting[-1] if self._waiting else self._request
        if request is None:
            return
        request.keep = False
        framing = [
            b"%b: %b\r\n" % field
            for field in request.fields
            if field[0].lower() in (b"content-length", b"transfer-encoding")
        ]
        if not framing or request.method == b"CONNECT":
            return
        self._keep_version()
        request.whole = False
        self._arriving = request
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            self._parser.feed_data(rest)
        except httptools.HttpParserError:
            self._break(_MALFORMED)

    def _refuse(self, answer: ErrorAnswer) -> None:
        """Have a request refused that is none the exchange could serve, and close."""
        request = self._request or ClientRequest(self, b"", b"", [])
        request.keep = False
        self.listener.refuse(request, answer)
        self._close(read_on=True)

    def _close(self, *, read_on: bool) -> None:
        """Close once all is written; with `read_on`, drop what the client still sends for a while."""
        transport = self.transport
        if read_on and not transport.is_closing():
            self._lingering = self._deaf = True
            transport.write_eof()
            self.resume_reading()
            self._dog.set(self._loop.time() + LINGER)
        else:
            transport.close()
            self._dog.set(self._loop.time() + self.listener.limits().write_stall)

    def _reset(self) -> None:
        """Close with a reset, dropping what is unsent."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _expired(self) -> None:
        """The deadline of whatever phase this is has passed."""
        request = self._request
        if request is not None and not request.whole and not request.started:
            request.break_off(_SLOW_BODY)
            self._wake_up()
        elif self._heading and request is None and not self._lingering:
            self._heading = False
            self._broken = _SLOW_HEAD
            self._deaf = True
            self._wake_up()
        elif self._stalled and self.transport.get_write_buffer_size() < self._unsent:
            self.pause_writing()  # slow, but it reads: its time runs anew
        else:
            self.transport.abort()

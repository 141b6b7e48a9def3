"""One HTTP/1.1 connection to an upstream, one request at a time.

Laws: bytes are pushed to the receiver as they arrive, with no task in between; framing is llhttp's,
strict; a connection is reusable only after a response that ended cleanly, with nothing behind it,
to a request that was wholly written; every way out of a request calls exactly one of the receiver's
`on_end` and `on_failure`, once.
"""

import asyncio
from typing import Protocol, cast

import httptools

from proxy.watchdog import TICK, Watchdog
from proxy.wire.headers import Field
from proxy.words import Failure

# A response head larger than this is no answer (nginx refuses beyond 8 KiB a line).
MAX_HEAD = 128 * 1024
_NO_BODY = frozenset({204, 304})


class Receiver(Protocol):
    """Takes one response.  `deadline()` says when to give up, and as what, at the present phase."""

    def on_head(self, status: int, headers: list[Field]) -> None:
        """The head is complete."""

    def on_body(self, data: bytes) -> None:
        """Some bytes of the body, framing removed."""

    def on_end(self, *, framed: bool) -> None:
        """The body is complete; not `framed`: only the end of the connection says so."""

    def on_failure(self, failure: Failure) -> None:
        """No more will come."""

    def deadline(self) -> tuple[float, Failure]:
        """Loop time of the next time-out, and its name."""


class Owner(Protocol):
    """Where a connection goes back to: its pool."""

    def released(self, connection: "Connection") -> None:
        """The response ended; the connection can serve another request."""

    def lost(self, connection: "Connection") -> None:
        """The connection is closed."""


class Connection(asyncio.Protocol):
    """A pooled connection.  The httptools parser calls the methods named like its callbacks."""

    __slots__ = (
        "_ended", "_framed", "_head_only", "_head_seen", "_headers", "_heard", "_interim", "_keep_alive", "_loop", "_owner",
        "_parser", "_receiver", "_request_done", "_surplus", "_writable", "closed", "last_read", "paused",
        "responded", "reused", "transport", "watchdog",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._headers: list[Field] = []
        self._heard = 0  # bytes of the response so far, while its head is incomplete
        self._head_only = False  # a HEAD request: its response has no body whatever its length says
        self._head_seen = False
        self._interim = False  # inside a 1xx response
        self._framed = False  # the response's end is marked by its length or by chunks
        self._ended = False
        self._keep_alive = False
        self._surplus = False  # bytes came behind the response: the peer and we disagree on framing
        self._request_done = True
        self._writable: asyncio.Future[None] | None = None
        self.closed = False
        self.paused = False
        self.responded = False  # bytes came since the request was sent
        self.reused = False  # has served before, so the peer may have closed it meanwhile
        self.last_read = 0.0
        self.watchdog = Watchdog(loop, self._expired)
        self.transport = cast("asyncio.Transport", None)  # set before anyone sees the connection

    # --- used by the exchange -----------------------------------------------------------------

    def send(self, request: bytes, receiver: Receiver, *, head_only: bool = False, more: bool = False) -> None:
        """Write a request (or, with `more`, its beginning) whose response `receiver` takes."""
        self._receiver = receiver
        self._head_only = head_only
        self._head_seen = self._framed = self._ended = self.responded = False
        self._heard = 0
        self._request_done = not more
        self.last_read = self._loop.time()
        self.transport.write(request)
        self.watchdog.set(receiver.deadline()[0])

    async def send_more(self, data: bytes) -> None:
        """Write more of the request; waits while the upstream does not read."""
        if not self.closed:
            self.transport.write(data)
            if self._writable is not None:
                await self._writable

    def send_end(self) -> None:
        """The request is wholly written."""
        self._request_done = True
        self.rearm()

    def rearm(self) -> None:
        """The receiver entered another phase: look at its deadline again."""
        if self._receiver is not None:
            self.watchdog.set(self._receiver.deadline()[0])

    def abort(self) -> None:
        """Close at once, whatever is in flight; the receiver hears nothing more."""
        self._receiver = None
        self.close()

    def pause_reading(self) -> None:
        """Stop taking bytes in: the client does not read them."""
        if not self.paused and not self.closed:
            self.paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes in again; the time paused was not the upstream's idleness."""
        if self.paused and not self.closed:
            self.paused = False
            self.last_read = self._loop.time()
            self.transport.resume_reading()
            self.rearm()

    def close(self) -> None:
        """Close the socket, unsent bytes and all; the pool forgets the connection."""
        if self.closed:
            return
        self.closed = True
        self.watchdog.close()
        self._wake_writer()
        self.transport.abort()
        self._owner.lost(self)

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            # Bytes that no request asked for: whatever they are, they are not the next answer.
            self.close()
            return
        self.responded = True
        self.last_read = self._loop.time()
        if not self._head_seen:
            self._heard += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._fail(Failure.BAD_BODY)
            return
        if self._ended:
            self._settle()
        elif not self._head_seen and self._heard > MAX_HEAD:
            self._fail(Failure.BAD_BODY)

    def eof_received(self) -> None:
        self._end_of_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._end_of_connection()
        self._fail(Failure.RESET)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self._wake_writer()

    # --- httptools callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ended:
            self._surplus = True
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # The two that mark a body's end are 14 and 17 long: most fields are told apart by length.
        if len(name) in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        receiver = self._receiver
        if receiver is None or self._ended:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            return
        self._head_seen = True
        if status in _NO_BODY:
            self._framed = True
        receiver.on_head(status, self._headers)
        if self._head_only:
            self._framed = False
            self._ended = True
            receiver.on_end(framed=True)
        else:
            self.watchdog.set(receiver.deadline()[0])

    def on_body(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is not None and not self._ended:
            receiver.on_body(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self._framed = False
        elif self._receiver is not None and not self._ended:
            self._ended = True
            # llhttp knows it only here: afterwards its flags are the next message's.
            self._keep_alive = self._parser.should_keep_alive()
            self._receiver.on_end(framed=self._framed)

    # --- inside -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After a complete response: back to the pool, or closed where its end was not certain."""
        self._receiver = None
        reusable = (
            self._framed
            and not self._surplus
            and self._request_done
            and not self.closed
            and self._keep_alive
            and self.transport.get_write_buffer_size() == 0
        )
        if not reusable:
            self.close()
            return
        if self.paused:
            self.resume_reading()
        self.reused = True
        self._owner.released(self)

    def _end_of_connection(self) -> None:
        """The peer closed in an orderly way: for a body without a length that is its end."""
        receiver = self._receiver
        if receiver is not None and self._head_seen and not self._framed:
            self._receiver = None
            receiver.on_end(framed=False)
            self.close()

    def _fail(self, failure: Failure) -> None:
        receiver = self._receiver
        self._receiver = None
        self.close()
        if receiver is not None:
            receiver.on_failure(failure)

    def _expired(self) -> None:
        if self._receiver is None:
            self.close()
            return
        deadline, failure = self._receiver.deadline()
        if deadline <= self._loop.time() + TICK:
            self._fail(failure)
        else:
            self.watchdog.set(deadline)

    def _wake_writer(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

"""One HTTP/1.1 connection to an upstream, one request at a time.

Laws: bytes are pushed to the receiver as they arrive, with no task in between; framing is llhttp's,
strict; a connection is reusable only after a response that ended cleanly, with nothing behind it,
to a request that was wholly written; every way out of a request calls exactly one of the receiver's
`on_end` and `on_failure`, once, and does nothing after it: whoever waited may go on within it.

What a stream's upstream writes as one chunk is mostly read as one: between two chunks the receiver is
offered what comes before llhttp is, whose state a whole chunk would not change.
"""

import asyncio
from typing import Final, Protocol, cast

import httptools

from proxy.outbox import Outbox
from proxy.watchdog import NEVER, TICK, Watchdog
from proxy.wire.chunk import END_OF_EVENT
from proxy.words import Failure

# A response head larger than this is no answer (nginx refuses beyond 8 KiB a line).
MAX_HEAD: Final = 128 * 1024

_NO_PARSER: Final = httptools.HttpResponseParser(object())


class Receiver(Protocol):
    """Takes one response.  `deadline()` says when to give up, and as what, at the present phase."""

    def on_head(self, status: int, head: bytes) -> None:
        """The head is complete: its status and the lines of its fields.  Raises ValueError: it is no answer."""

    def on_chunk(self, chunk: bytes) -> bool:
        """What came where a chunk begins, framing and all; whether it was one whole chunk, and is taken."""

    def on_body(self, data: bytes) -> None:
        """Some bytes of the body, framing removed."""

    def on_end(self, *, framed: bool) -> None:
        """The body is complete; not `framed`: only the end of the connection says so."""

    def on_failure(self, failure: Failure) -> None:
        """No more will come."""

    def until_close(self) -> bool:
        """Whether nothing but the end of the connection marks the body's end."""

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
        "_between",
        "_chunked",
        "_ended",
        "_head",
        "_head_only",
        "_head_seen",
        "_interim",
        "_interims",
        "_loop",
        "_outbox",
        "_owner",
        "_parser",
        "_receiver",
        "_request_done",
        "_reusable",
        "_surplus",
        "_writable",
        "closed",
        "last_read",
        "paused",
        "responded",
        "transport",
        "used",
        "watchdog",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, outbox: Outbox) -> None:
        self._outbox = outbox
        self._loop = loop
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._head = b""  # what came of the response's head, while it is incomplete
        self._interims = 0  # bytes of 1xx responses before it
        self._head_only = False  # a HEAD request: its response has no body whatever its length says
        self._head_seen = False
        self._interim = False  # inside a 1xx response
        self._ended = False
        self._chunked = False  # a chunk is complete, and no byte of the next one's data has come
        self._between = False  # … nor any other
        self._reusable = False
        self._surplus = False  # bytes came behind the response: the peer and we disagree on framing
        self._request_done = True
        self._writable: asyncio.Future[None] | None = None
        self.closed = False
        self.paused = False
        self.used = False  # has served before: the peer may have closed it meanwhile
        self.responded = False  # bytes came since the request was sent
        self.last_read = 0.0
        self.watchdog = Watchdog(loop, self._expired)
        self.transport = cast("asyncio.Transport", None)  # set before anyone sees the connection

    # --- used by the exchange -----------------------------------------------------------------

    def send(self, request: bytes, receiver: Receiver, deadline: float) -> None:
        """Write a request whose response `receiver` takes.

        `deadline` is the loop time at which to ask the receiver whether it has waited long enough.
        """
        self._receiver = receiver
        self._head_seen = self._ended = self.responded = False
        self._head = b""
        self._interims = 0
        self._outbox.write(self.transport, request)
        watchdog = self.watchdog
        watchdog.deadline = deadline
        if deadline < watchdog.due:
            watchdog.set(deadline)

    def send_head(self, head: bytes, receiver: Receiver, deadline: float) -> None:
        """Write a request's head; its body follows with `send_more` and ends with `send_end`."""
        self._request_done = False
        self.send(head, receiver, deadline)

    def expect_no_body(self) -> None:
        """The request about to be sent is a HEAD: its response has no body whatever length it says."""
        self._head_only = True

    async def send_more(self, data: bytes) -> None:
        """Write more of the request; waits while the upstream does not read."""
        if not self.closed:
            self._outbox.flush()
            self.transport.write(data)
            if self._writable is not None:
                await self._writable

    def send_end(self) -> None:
        """The request is wholly written."""
        self._request_done = True

    def rearm(self, deadline: float = NEVER) -> None:
        """The receiver entered another phase: look at its deadline again, at the latest at `deadline`."""
        if self._receiver is not None:
            self.watchdog.set(min(deadline, self._receiver.deadline()[0]))

    def wake(self, waiting: asyncio.Future[None]) -> None:
        """Let the task that awaits `waiting` go on; the last thing that a call of the receiver does."""
        self._outbox.wake(waiting)

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
        if self._between and self._receiver.on_chunk(data):
            self.last_read = self._loop.time()
            return
        self.responded = True
        if not self._head_seen:
            self._head = self._head + data if self._head else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            if not self._ended:
                self._fail(Failure.BAD_BODY)
                return
            self._surplus = True  # the answer was whole; what came behind it is nobody's
        if self._ended:
            self._settle()
            return
        self.last_read = self._loop.time()
        # All that could follow the chunk without a byte of data is a line with the next one's size.
        self._between = self._chunked and data[-4:] == END_OF_EVENT
        if not self._head_seen:
            if len(self._head) + self._interims > MAX_HEAD:
                self._fail(Failure.BAD_BODY)
        elif self._head:
            self._head = b""
            self.rearm()

    def eof_received(self) -> None:
        self._end_of_connection()
        if self._receiver is None:
            self.close()  # idle: nobody may take it any more

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser = _NO_PARSER  # it held us, as we held it: no connection waits for the garbage collector
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

    def on_headers_complete(self) -> None:
        receiver = self._receiver
        if receiver is None or self._ended:
            return
        # llhttp has judged the head; its lines are taken as they came.  It wants CRLF, so the
        # head of this response ends at the first empty line.
        head = self._head.lstrip(b"\r\n")
        end = head.find(b"\r\n\r\n") + 2
        if end + self._interims > MAX_HEAD:
            raise httptools.HttpParserError("head")  # however it was cut into reads
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100:
                raise httptools.HttpParserError("status")
            self._interim = True
            self._interims += end
            self._head = head[end + 2 :]
            return
        self._head_seen = True
        receiver.on_head(status, head[head.find(b"\r\n") + 2 : end])
        if self._head_only:
            # llhttp would wait for the body that a HEAD only announces.
            self._ended = True
            self._reusable = False

    def on_body(self, data: bytes) -> None:
        receiver = self._receiver
        self._chunked = False
        if receiver is not None and not self._ended:
            receiver.on_body(data)

    def on_chunk_complete(self) -> None:
        self._chunked = True

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self._receiver is not None and not self._ended:
            self._ended = True
            # llhttp knows it only here: afterwards its flags are the next message's.
            self._reusable = self._parser.should_keep_alive()

    # --- inside -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After a complete response: back to the pool, or closed where its end was not certain; then the receiver."""
        receiver = self._receiver
        self._receiver = None
        self._chunked = self._between = False
        if not self._reusable or self._surplus or not self._request_done or self.transport.get_write_buffer_size():
            self.close()
        else:
            if self.paused:
                self.resume_reading()
            self._owner.released(self)
        if receiver is not None:
            receiver.on_end(framed=True)

    def _end_of_connection(self) -> None:
        """The peer closed in an orderly way: for a body without a length that is its end."""
        receiver = self._receiver
        if receiver is not None and self._head_seen and receiver.until_close():
            self._receiver = None
            self.close()
            receiver.on_end(framed=False)

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

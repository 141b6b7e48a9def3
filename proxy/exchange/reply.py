"""One upstream's response as it arrives: held until the commit point, then relayed.

The connection pushes bytes in.  Before the commit point they are held, and `settled` resolves once
it is clear what they are worth.  After it they go straight to the client, with no task in between,
and `finished` resolves at the end.
"""

import asyncio
import re
import zlib
from enum import Enum
from typing import Any, Final

from proxy.exchange.client import Client
from proxy.policy.snapshot import TimeoutsPolicy
from proxy.upstream.connection import Connection
from proxy.watchdog import NEVER
from proxy.wire.chunk import END_OF_EVENT, is_whole_chunk
from proxy.wire.errors import failure_answer
from proxy.wire.headers import response_field
from proxy.wire.sse import EventKind, EventReader, parse_event
from proxy.wire.usage import read_usage
from proxy.words import Failure, Usage

# A JSON answer beyond this is relayed as it comes: no unsound answer is that long.
HOLD_JSON: Final = 1024 * 1024
# A stream that has sent this much and still no content is not going to.
HOLD_STREAM: Final = 4 * 1024 * 1024

_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"')
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_OTHER_CODING: Final = re.compile(rb"(?:^|\n)transfer-encoding:(?![ \t]*chunked *\r)")
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')


class Mode(Enum):
    """What is held before the commit point."""

    ANSWER = "answer"  # a chat answer: JSON, or a stream where one was asked for
    BUFFERED = "buffered"  # a chat stream held to its end
    RAW = "raw"  # pass-through: nothing but the head


class Reply:
    """A response on its way from a connection to a client.

    What most replies never change stands on the class: an instance is cheap to make.
    """

    connection: Connection | None = None
    finished: asyncio.Future[None] | None = None  # since the commit
    sent_at = NEVER  # loop time at which the request was last written to
    status = 0
    head = b""  # the lines of its fields
    failure: Failure | None = None
    ended = False  # the response is complete
    answer: Any = None  # a complete JSON answer, parsed
    content_events = 0
    _id: Any = None  # of a stream's answer
    _usage: Usage | None = None  # as a stream reported it
    _mode = Mode.ANSWER
    _want_stream = False
    _strip_usage = False
    _limit = HOLD_JSON
    _reader: EventReader | None = None
    _size = 0
    _watch_end = False  # no length: only a stream's own words tell that it is complete
    _finished = False  # … and they have been said
    _closed = False  # the upstream will send no more

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: TimeoutsPolicy, total: float) -> None:
        """`total` is the loop time at which the whole request must have settled or ended."""
        self.timeouts = timeouts
        self.settled: asyncio.Future[None] = loop.create_future()
        self._total = total
        self._held: list[bytes] = []
        self._client: Client | None = None

    def expect_stream(self, *, strip_usage: bool, buffer_up_to: int = 0) -> None:
        """A stream was asked for; `buffer_up_to` bytes of it are held to its end."""
        self._want_stream = True
        self._strip_usage = strip_usage
        if buffer_up_to:
            self._mode = Mode.BUFFERED
            self._limit = buffer_up_to

    def expect_anything(self) -> None:
        """The response is passed through, whatever it is."""
        self._mode = Mode.RAW

    def restart(self, loop: asyncio.AbstractEventLoop) -> None:
        """The request is sent again, after a connection that turned out to be closed."""
        self.settled = loop.create_future()
        self.failure = None
        self._closed = False

    # --- Receiver -----------------------------------------------------------------------------

    def on_head(self, status: int, head: bytes) -> None:
        self.status = status
        self.head = head
        if self._mode is Mode.RAW:
            lower = head.lower()
            if lower.find(b"transfer-encoding:") >= 0 and _OTHER_CODING.search(lower) is not None:
                raise ValueError("a transfer coding that nobody asked for, and that would not be taken off")
            self._settle()
        elif self._want_stream and status == 200 and self._is_event_stream():
            self._reader = EventReader()
            self._watch_end = self.until_close()

    def on_chunk(self, chunk: bytes) -> bool:
        client = self._client
        if client is None or not client.chunked or not is_whole_chunk(chunk):
            return False
        if self._reader is not None:
            if chunk[-4:] != END_OF_EVENT or not self._is_plain(chunk, self._reader):
                return False
            self.content_events += chunk.count(b"\n\n")
        client.write_chunk(chunk)
        return True

    def on_body(self, data: bytes) -> None:
        if self._client is not None:
            self._relay(data)
        elif self._reader is None:
            self._held.append(data)
            self._size += len(data)
            if self._size > self._limit:
                self._settle()
        else:
            for event in self._reader.feed(data):
                self._hold_event(event)
            if self._size > (self._limit if self._mode is Mode.BUFFERED else HOLD_STREAM):
                self._settle()

    def on_end(self, *, framed: bool) -> None:
        if self._reader is not None and not framed and not self._finished:
            self.on_failure(Failure.STREAM_TRUNCATED)
            return
        if self._reader is not None:
            self._pass_on(self._reader.take_rest())
            if not self.content_events and self.failure is None:
                self.failure = Failure.EMPTY
        self.ended = self._closed = True
        self._close_relay()

    def on_failure(self, failure: Failure) -> None:
        self._closed = True
        if self.status and self._reader is not None and failure is Failure.RESET:
            failure = Failure.STREAM_TRUNCATED
        if self.failure is not Failure.STREAM_ERROR:  # what the stream said itself stays the reason
            self.failure = failure
        self._close_relay()

    def until_close(self) -> bool:
        return not (self.field(b"content-length") or self.field(b"transfer-encoding"))

    def deadline(self) -> tuple[float, Failure]:
        timeouts = self.timeouts
        if not self.status:
            phase, failure = self.sent_at + timeouts.first_byte, Failure.FIRST_BYTE_TIMEOUT
        elif self._reader is not None and self._client is None and not self.content_events:
            phase, failure = self.sent_at + timeouts.first_content, Failure.FIRST_CONTENT_TIMEOUT
        else:
            connection = self.connection
            idle = connection is not None and not connection.paused
            phase = connection.last_read + timeouts.idle if connection is not None and idle else NEVER
            failure = Failure.IDLE_TIMEOUT
        return (phase, failure) if phase < self._total else (self._total, Failure.TOTAL_TIMEOUT)

    # --- used by the exchange -----------------------------------------------------------------

    @property
    def usage(self) -> Usage | None:
        """The tokens as the upstream counted them, else as we did."""
        if self._usage is not None:
            return self._usage
        if self.content_events:
            return Usage(0, self.content_events, estimated=True)
        return read_usage(self.answer)

    @property
    def response_id(self) -> str:
        """What the upstream calls its answer; empty where it does not, or by no name that can be kept."""
        named = self._id
        if named is None and type(self.answer) is dict:
            named = self.answer.get("id")
        return named if type(named) is str and _ID.fullmatch(named) else ""

    def begin(self, connection: Connection, now: float) -> float:
        """The request is being written to `connection` at loop time `now`; when to look again."""
        self.connection = connection
        self.sent_at = now
        head = now + self.timeouts.first_byte
        return min(self._total, head)

    @property
    def is_stale(self) -> bool:
        """Whether its failure only says that an idle connection had been closed: nothing was answered."""
        return self.failure is Failure.RESET and self.connection is not None and not self.connection.responded

    @property
    def presentable(self) -> bool:
        """Whether there is an upstream answer to pass on, sound or not: complete, or still coming."""
        return self.ended or (self.status != 0 and not self._closed)

    @property
    def is_stream(self) -> bool:
        """Whether the upstream answers with events."""
        return self._reader is not None

    @property
    def held(self) -> bytes:
        """What has arrived and was not relayed."""
        return self._held[0] if len(self._held) == 1 else b"".join(self._held)

    def decoded(self) -> bytes | None:
        """What is held, inflated; None where it is not gzip or deflate."""
        if self.field(b"content-encoding") not in (b"gzip", b"deflate"):
            return None
        try:
            return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(self.held, 16 * HOLD_JSON)
        except zlib.error:
            return None

    def field(self, name: bytes) -> bytes:
        """The first value of a field by lower-case name, in lower case; b"" where there is none."""
        return response_field(self.head, name)

    def relay_to(self, client: Client, loop: asyncio.AbstractEventLoop, total: float) -> asyncio.Future[None]:
        """Commit: what is held goes to `client` now, the rest as it comes, until loop time `total`."""
        self.finished = loop.create_future()
        self._client = client
        self._total = total
        held, self._held = self._held, []
        if held:
            client.write(b"".join(held))
        if self._closed:
            self._close_relay()
        elif self.connection is not None:
            client.source = self.connection
            self.connection.rearm()
        return self.finished

    # --- inside -------------------------------------------------------------------------------

    def _is_event_stream(self) -> bool:
        return self.field(b"content-type").startswith(b"text/event-stream") and self.field(b"content-encoding") in (
            b"",
            b"identity",
        )

    def _hold_event(self, event: bytes) -> None:
        kind, chunk = parse_event(event)
        self._note_finish(kind, event)
        if chunk is not None:
            if self._id is None:
                self._id = chunk.get("id")
            usage = read_usage(chunk)
            if usage is not None:
                self._usage = usage
                if self._strip_usage and not chunk.get("choices"):
                    return
        self._held.append(event)
        self._size += len(event)
        if kind is EventKind.CONTENT:
            self.content_events += 1
            if self._mode is not Mode.BUFFERED:
                self._settle()
            elif self.content_events == 1 and self.connection is not None:
                self.connection.rearm()  # from waiting for content to waiting for more
        elif kind is EventKind.ERROR and self.failure is None:
            self.failure = Failure.STREAM_ERROR
            self._settle()

    def _relay(self, data: bytes) -> None:
        """After the commit.  Whole events with nothing to look at pass without being parsed."""
        client = self._client
        reader = self._reader
        assert client is not None
        if reader is None:
            client.write(data)
            return
        if data[-2:] == b"\n\n" and self._is_plain(data, reader):
            self.content_events += data.count(b"\n\n")
            client.write(data)
            return
        for event in reader.feed(data):
            self._relay_event(event)

    def _is_plain(self, data: bytes, reader: EventReader) -> bool:
        """Whether there is nothing to look at in what ends with an event."""
        return (
            reader.between
            and not self._watch_end
            and data.find(b'"error"') < 0  # `in` raises an exception inside, and drops it: bytes might be a number
            and (data.find(b'"usage"') < 0 or not _USAGE.search(data))
        )

    def _relay_event(self, event: bytes) -> None:
        kind, chunk = parse_event(event)
        self._note_finish(kind, event)
        if kind is EventKind.CONTENT:
            self.content_events += 1
        elif kind is EventKind.ERROR:
            self.failure = Failure.STREAM_ERROR
        usage = read_usage(chunk) if chunk is not None else None
        if usage is not None:
            self._usage = usage
            if self._strip_usage and not chunk.get("choices"):
                return
        self._pass_on(event)

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        if self._client is not None:
            self._client.write(data)
        else:
            self._held.append(data)

    def _note_finish(self, kind: EventKind, event: bytes) -> None:
        if kind is EventKind.DONE or (self._watch_end and _FINISH.search(event)):
            self._finished = True

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)

    def _close_relay(self) -> None:
        """End the client's response the way the upstream's ended, or let the exchange decide."""
        client = self._client
        if client is None:
            if self.connection is None:
                self._settle()
            else:
                self.connection.wake(self.settled)
            return
        finished = self.finished
        assert finished is not None
        if finished.done():
            return
        client.source = None
        if self.ended and self.failure is not Failure.STREAM_ERROR:
            client.end()
        else:
            # A stream that reported its own error has said enough; any other break we tell.
            if self._reader is not None and self.failure not in (None, Failure.STREAM_ERROR):
                client.write(failure_answer(self.failure).event())
            client.abort()
        finished.set_result(None)

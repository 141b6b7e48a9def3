"""One request as the exchange sees it: its head, its body as it arrives, and the way to answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.exchange.call import Refusal
from proxy.exchange.client import Source
from proxy.wire.errors import ErrorAnswer, bad_request
from proxy.wire.headers import Field
from proxy.words import Failure

if TYPE_CHECKING:
    from proxy.listener.connection import ClientConnection

log: Final = logging.getLogger("splitlane.listener")

_STATUS_LINE: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]+((?:[/?].*)?)", re.IGNORECASE)
_NO_BODY: Final = frozenset({204, 304})
_BAD_BODY: Final = bad_request("the request's body is not valid HTTP/1.1")
_TARGET: Final = bad_request("the request target must be a path")
_METHOD: Final = bad_request("the method is not supported", status=405)


class ClientRequest:
    """The exchange's `Client`: one request on a connection."""

    keep = True  # whether the connection may serve another request after this one
    started = False
    cut = False  # the response stays incomplete
    chunked = False
    crowded_out = False
    whole = False  # the body has arrived
    broken: ErrorAnswer | None = None  # why the body will never be whole
    old: bool | None = None  # whether it is HTTP/1.0; None: the parser still knows
    size = 0  # bytes of the body that wait to be read
    _timed = False  # the body's time limit runs

    def __init__(self, connection: ClientConnection, method: bytes, target: bytes, fields: Sequence[Field]) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.fields: Sequence[Field] = fields
        self.pieces: list[bytes] = []

    def refusal(self) -> ErrorAnswer | None:
        """Why the exchange never sees this request; takes an absolute target's path."""
        if self.method not in _METHODS:
            return _METHOD
        if not self.target.startswith(b"/"):
            # Absolute form (RFC 9112 §3.2.2): its host is not looked at, the upstream is the policy's.
            absolute = _ABSOLUTE.fullmatch(self.target)
            if absolute is None:
                return _TARGET
            path = absolute[1]
            self.target = path if path.startswith(b"/") else b"/" + path
        return None

    # --- Client -------------------------------------------------------------------------------

    @property
    def http_10(self) -> bool:
        return self.connection.http_10 if self.old is None else self.old

    @property
    def stopping(self) -> bool:
        return self.connection.stopping

    @property
    def source(self) -> Source | None:
        return self.connection.source

    @source.setter
    def source(self, source: Source | None) -> None:
        self.connection.source = source

    def body_if_whole(self) -> bytes | None:
        if not self.whole:
            return None
        pieces, self.pieces = self.pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def body_chunk(self) -> bytes:
        while not self.pieces:
            if self.broken is not None:
                log.warning("refused a request's body: %s", self.broken.message)
                # A new one each time: an exception keeps the frames that it has passed, and all that is in them.
                raise Refusal(self.broken, Failure.BAD_REQUEST)
            if self.whole:
                self.connection.end_body_time()
                return b""
            if not self._timed:
                self._timed = True
                self.connection.start_body_time()
            await self.connection.more()
        piece = b"".join(self.pieces)
        self.pieces.clear()
        self.size = 0
        self.connection.resume_reading()
        return piece

    def body_progressed(self) -> None:
        self._timed = False

    def send_continue(self) -> None:
        self.connection.listener.outbox.flush()
        self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def respond(self, status: int, fields: bytes, body: bytes) -> None:
        connection = self.connection
        outbox = connection.listener.outbox
        if self.method == b"HEAD" or status in _NO_BODY:
            outbox.write(connection.transport, self._message(status, fields, b""))
        else:
            framing = b"Content-Length: %d\r\n" % len(body)
            outbox.write(connection.transport, self._message(status, fields, framing, body))
        if not self.keep:
            outbox.flush()  # the connection is about to be closed

    def start_stream(self, status: int, fields: bytes, length: int | None) -> None:
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        elif self.http_10:
            framing = b""  # the end of the connection is the end of the body
            self.keep = False
        else:
            framing = b"Transfer-Encoding: chunked\r\n"
            self.chunked = True
        head = self._message(status, fields, framing)
        self.connection.listener.outbox.flush()  # what answers an earlier request goes first
        self._write(head)

    def write(self, data: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def write_chunk(self, chunk: bytes) -> None:
        self._write(chunk)

    def end(self) -> None:
        if self.chunked:
            self._write(b"0\r\n\r\n")

    def abort(self) -> None:
        self.keep = False
        self.cut = True

    def _write(self, data: bytes) -> None:
        try:
            self.connection.transport.write(data)
        except RuntimeError:
            return  # the client has left since, and its connection is closed

    def _message(self, status: int, fields: bytes, framing: bytes, body: bytes = b"") -> bytes:
        self.started = True
        if self._timed:
            self.connection.end_body_time()
        line = _STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status
        if self.keep and self.whole and not self.connection.listener.draining:
            return b"".join((line, fields, framing, b"\r\n", body))
        self.keep = False
        return b"".join((line, fields, framing, b"Connection: close\r\n\r\n", body))

    # --- used by the connection ---------------------------------------------------------------

    def add(self, data: bytes) -> None:
        """A piece of the body arrived."""
        self.pieces.append(data)
        self.size += len(data)

    def break_off(self, why: ErrorAnswer = _BAD_BODY) -> None:
        """The rest of the body will not come."""
        self.broken = why
        self.keep = False

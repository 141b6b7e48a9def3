"""Raw bytes into a client's connection: llhttp, and what we make of it.

Laws: no error escapes; each request that is served has exactly one answer, each refusal too; what comes out is whole
HTTP responses and nothing else; what is served does not depend on how the bytes were cut; behind bytes that cannot be
framed nothing is served; a connection that is over leaves no task and no timer.
"""

import asyncio
from typing import Any, NamedTuple

import httptools

from proxy.exchange.call import Refusal
from proxy.listener.connection import ClientConnection
from proxy.listener.listener import Listener
from proxy.outbox import Outbox
from proxy.policy.snapshot import LimitsPolicy
from proxy.wire.errors import ErrorAnswer
from proxy.wire.headers import Field

TOKENS = (
    b"GET / HTTP/1.1\r\n", b"POST /v1/chat/completions HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"\r\n\r\n", b"\n",
    b"\r", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"chunked", b", ", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n",
    b"0\r\nX-A: b\r\n\r\n", b";a=b", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"HEAD ",
    b"CONNECT a:1 ", b"OPTIONS * ", b"TRACE ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"http://a/b", b" ", b"\t", b":",
    b"\x00", b"\x0b", b"\xff", b"X-A: b\r\n c\r\n",
)  # fmt: skip

LIMITS = LimitsPolicy(**dict.fromkeys(LimitsPolicy.__dataclass_fields__, 1 << 20))
ANSWER = ErrorAnswer(500, "server_error", "x", "broken")
MOST_PIECES = 200
TURNS = 4  # of the loop, in which all that can happen has happened

_LOOP = asyncio.new_event_loop()


class Served(NamedTuple):
    """A request as the exchange sees it."""

    method: bytes
    target: bytes
    fields: list[Field]
    body: bytes
    refused: bool  # its body was broken off


class _Transport(asyncio.Transport):
    """Keeps what is written; a closed one is told so in a later turn, as a real one is."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._closing = False
        self._writable = True
        self.written = b""

    def write(self, data: Any) -> None:
        assert self._writable, "nothing is written behind the end"
        self.written += data

    def write_eof(self) -> None:
        self._writable = False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._writable = False
            _LOOP.call_soon(self._protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


class _Lane:
    """One connection, and what is served on it."""

    def __init__(self) -> None:
        self.served: list[Served] = []
        self.refused: list[bytes] = []  # methods; of what is no request at all: empty
        self.listener = Listener(lambda _: self.handle, self.refuse, lambda: LIMITS, _LOOP, Outbox(_LOOP))

    async def handle(self, client: Any) -> None:
        body, refused = b"", False
        try:
            while piece := await client.body_chunk():
                body += piece
        except Refusal:
            refused = True
        self.served.append(Served(client.method, client.target, list(client.fields), body, refused))
        client.respond(200, b"x-number: %d\r\n" % len(self.served), b"ok")

    def refuse(self, client: Any, answer: ErrorAnswer) -> None:
        self.refused.append(client.method)
        client.respond(answer.status, answer.fields(), answer.body())


def check(data: bytes) -> None:
    """The first byte says how the rest is cut for the second time."""
    raw = data[1:]
    size = max(1 + data[0] % 64, len(raw) // MOST_PIECES) if raw else 1
    whole = _LOOP.run_until_complete(_converse([raw]))
    cut = _LOOP.run_until_complete(_converse([raw[start : start + size] for start in range(0, len(raw), size)]))
    assert whole.served == cut.served
    assert whole.refused == cut.refused


async def _arrive(connection: ClientConnection, piece: bytes) -> None:
    """As a transport has bytes taken: by the loop, while no task runs."""
    taken = _LOOP.create_future()

    def take() -> None:
        try:
            connection.data_received(piece)
        except Exception as error:
            taken.set_exception(error)
        else:
            taken.set_result(None)

    _LOOP.call_soon(take)
    await taken


async def _converse(pieces: list[bytes]) -> _Lane:
    lane = _Lane()
    connection = ClientConnection(lane.listener)
    transport = _Transport(connection)
    connection.connection_made(transport)
    task = connection._task
    assert task is not None
    for piece in pieces:
        if transport.is_closing():
            break
        await _arrive(connection, piece)
        await _turns()
    await _turns()
    if not transport.is_closing():
        connection.eof_received()
        transport.close()  # as a real one does, where the protocol does not ask it to stay open
    await _turns()
    assert connection not in lane.listener.open
    assert task.done()
    assert task.cancelled() or task.exception() is None
    assert connection._dog._handle is None or connection._dog.deadline < float("inf")
    assert len(lane.refused) < 2
    _check_written(transport.written, [each.method for each in lane.served], lane.refused)
    return lane


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class _Reader:
    """Counts what a client's parser makes of the bytes."""

    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


def _check_written(written: bytes, served: list[bytes], refused: list[bytes]) -> None:
    """As many answers as requests, in order, each whole."""
    position = 0
    for number, method in enumerate(served + refused):
        reader: Any = _Reader()
        parser = httptools.HttpResponseParser(reader)
        end = written.index(b"\r\n\r\n", position) + 4
        body = 0
        if method != b"HEAD":
            _, _, length = written[position:end].lower().partition(b"content-length: ")
            body = int(length.partition(b"\r\n")[0])
            parser.feed_data(written[position : end + body])
            assert reader.complete == 1
        if number < len(served):
            assert b"x-number: %d\r\n" % (number + 1) in written[position:end]
        position = end + body
    assert position == len(written)

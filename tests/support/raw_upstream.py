"""An upstream that sends exactly the bytes of its script, and keeps exactly the bytes it got.

    ok = response(b'{"choices":[]}')
    async with RawUpstream([Read(), Send(ok, size=3)]) as up:
        ...  # up.url, up.requests, up.connections[0].closed_at

The script is played on every connection. At its end it starts over, so the one above answers any
number of requests; one without a `Read` is played once. A callable gets the connection's number, from
1, and returns that connection's script.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self, cast

from proxy.stub.http import reset


class Read(NamedTuple):
    """Wait for one whole request; `body=False`: for its head only, the rest stays to be read."""

    body: bool = True


class Send(NamedTuple):
    """Write bytes; in writes of `size` bytes with `pause` seconds between them, where size is not 0."""

    data: bytes
    size: int = 0
    pause: float = 0.0


class Answer(NamedTuple):
    """Write what `to` makes of the request that was read last, and where it says so end the connection with FIN."""

    to: Callable[[bytes], tuple[bytes, bool]]


class Pause(NamedTuple):
    """Do nothing for that many seconds."""

    seconds: float


class Close(NamedTuple):
    """End the connection with FIN."""


class Reset(NamedTuple):
    """End the connection with RST. Put a Pause before it where bytes sent shall arrive."""


class Stall(NamedTuple):
    """Do nothing until the peer closes."""


Action = Read | Send | Answer | Pause | Close | Reset | Stall
Script = Sequence[Action] | Callable[[int], Sequence[Action]]


def response(
    body: bytes,
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),),
) -> bytes:
    """Return a response with a Content-Length."""
    return head(status, [*headers, ("content-length", str(len(body)))]) + body


def event_stream(*events: bytes, end: bool = True) -> bytes:
    """Return a stream with one HTTP chunk for each event; without its terminating chunk if not `end`."""
    opening = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    return opening + b"".join(chunk(event) for event in events) + (b"0\r\n\r\n" if end else b"")


def head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Return a response's head."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class RawConnection(asyncio.Protocol):
    """One connection. Times are Unix seconds; `closed_at` is None as long as the peer has not closed."""

    def __init__(self, number: int, script: Sequence[Action], requests: list[bytes]) -> None:
        self.number = number
        self.received = bytearray()  # everything
        self.requests: list[bytes] = []  # what `Read` took: heads and bodies as they came
        self.closed_at: float | None = None
        self.was_reset = False  # the peer closed with RST
        self._script = script
        self._all_requests = requests
        self._unread = bytearray()
        self._ours = False  # we close, so the end of the connection is not the peer's doing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._changed = asyncio.Event()  # bytes came, or the peer left
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._play(), name=f"raw-upstream-{self.number}")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._unread += data
        self._changed.set()

    def eof_received(self) -> bool:
        self._peer_left()
        return self._transport.get_extra_info("ssl_object") is None  # half-open, which TLS cannot be

    def connection_lost(self, exc: Exception | None) -> None:
        self.was_reset = isinstance(exc, ConnectionError)
        self._peer_left()
        self.lost.set()
        self._writable.set()
        self.task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def close(self, *, rst: bool = False) -> None:
        """End the connection from this side, with FIN or RST."""
        self._ours = True
        if rst:
            reset(self._transport)
        else:
            self._transport.close()

    def _peer_left(self) -> None:
        if self.closed_at is None and not self._ours:
            self.closed_at = time.time()
        self._changed.set()

    async def _play(self) -> None:
        script = list(self._script)
        try:
            while True:
                for action in script:
                    if not await self._act(action):
                        return
                if not any(isinstance(action, Read) for action in script):
                    self.close()
                    return
        except Exception:
            self.close(rst=True)  # the peer should not wait for what will not come
            raise

    async def _act(self, action: Action) -> bool:
        """Carry out one action; False: the script ends here."""
        match action:
            case Read(body):
                return await self._read(body)
            case Send(data, size, pause):
                for start in range(0, len(data), size or len(data)):
                    if start:
                        await asyncio.sleep(pause)
                    self._transport.write(data[start : start + size] if size else data)
                    await self._writable.wait()
            case Answer(to):
                answer, ends = to(self.requests[-1])
                self._transport.write(answer)
                await self._writable.wait()
                if ends:
                    self.close()
                    return False
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Stall():
                await self._until(lambda: self.closed_at is not None)
            case Close():
                self.close()
                return False
            case Reset():
                self.close(rst=True)
                return False
        return True

    async def _read(self, body: bool) -> bool:
        length = 0

        def complete() -> bool:
            nonlocal length
            length = request_length(self._unread, body)
            return length > 0 or self.closed_at is not None

        await self._until(complete)
        if length == 0:  # the peer left instead of asking
            self._transport.close()
            return False
        taken = bytes(self._unread[:length])
        del self._unread[:length]
        self.requests.append(taken)
        self._all_requests.append(taken)
        return True

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def request_length(data: bytes | bytearray, body: bool = True) -> int:
    """Return the length in bytes of the first request in `data`; 0: it is not complete."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return 0
    if not body:
        return end
    fields = [line.partition(b":") for line in bytes(data[:end]).lower().split(b"\r\n")[1:]]
    values = {name: value.strip() for name, _, value in fields}
    if values.get(b"transfer-encoding", b"").endswith(b"chunked"):
        return _chunked_end(data, end)
    end += int(values.get(b"content-length", b"0"))
    return end if len(data) >= end else 0


def _chunked_end(data: bytes | bytearray, start: int) -> int:
    while True:
        line = data.find(b"\r\n", start)
        if line < 0:
            return 0
        size = int(bytes(data[start:line]).partition(b";")[0], 16)
        if size == 0:
            # trailers, if any, end like a head does
            end = line + 2 if data[line : line + 4] == b"\r\n\r\n" else data.find(b"\r\n\r\n", line) + 2
            return end + 2 if end >= 2 and len(data) >= end + 2 else 0
        start = line + 2 + size + 2


class RawUpstream:
    """The listener; one script for every connection."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []  # of all connections, in the order in which they were complete
        self.connections: list[RawConnection] = []
        self.host = "127.0.0.1"
        self.port = 0
        self._script = script
        self._tls = tls

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, self.host, 0, ssl=self._tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything, and raise what a script raised."""
        self._server.close()
        opened = [each for each in self.connections if hasattr(each, "task")]  # the rest never got through TLS
        for connection in opened:
            if not connection.lost.is_set():
                connection.task.cancel()
                connection.close(rst=True)
        outcomes = await asyncio.gather(*(each.task for each in opened), return_exceptions=True)
        for connection in opened:
            await connection.lost.wait()
        for outcome in outcomes:
            if isinstance(outcome, Exception) and kind is None:
                raise outcome

    def _accept(self) -> RawConnection:
        number = len(self.connections) + 1
        script = self._script(number) if callable(self._script) else self._script
        connection = RawConnection(number, script, self.requests)
        self.connections.append(connection)
        return connection

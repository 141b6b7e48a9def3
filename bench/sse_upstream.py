"""A streaming upstream: OpenAI-shaped chunks at a fixed pace, each stamped as it is written.

Raw protocol on uvloop, because it shares a core with the client.  A stream opens with the head and a
role-only delta; content chunk k follows k intervals later; the last is followed by the finish reason,
the usage where the request asks for it, and `[DONE]`.  A chunk's content is `STAMP NUMBER `:
`time.monotonic_ns()` (one clock for all processes of a machine) and the chunk's place in its stream.
"""

import argparse
import asyncio
import time
from typing import cast

import httptools
import orjson
import uvloop

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
_ENVELOPE = (
    b'{"id":"chatcmpl-e5cc70bb28c444948073e77776eb30ef","object":"chat.completion.chunk",'
    b'"created":1702256327,"model":"open-mistral-7b","choices":'
)
_USAGE = b'[],"usage":{"prompt_tokens":316,"completion_tokens":100,"total_tokens":416}}'


def _event(data: bytes) -> bytes:
    """One SSE event as one HTTP chunk."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


class Timing:
    """How this upstream's streams run."""

    def __init__(self, chunks: int, interval: float, hold: bool) -> None:
        self.chunks = chunks
        self.interval = interval  # seconds
        self.hold = hold  # stop after the first content chunk, and wait


class UpstreamProtocol(asyncio.Protocol):
    """One connection: requests one after the other, each answered by a stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timing: Timing) -> None:
        self._loop = loop
        self._timing = timing
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._body = bytearray()
        self._usage = b""  # what every chunk of this stream ends with
        self._next = 0
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's inherit from no ABC

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._transport is not None
        if self._parser.get_method() != b"POST":
            self._transport.write(_OK)
            return
        request = orjson.loads(self._body)
        if request.get("stream") is not True:
            self._transport.write(_REFUSED)
            return
        options = request.get("stream_options") or {}
        self._usage = b',"usage":null' if options.get("include_usage") else b""
        role = b'%b[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]%b}'
        self._transport.write(_HEAD + _event(role % (_ENVELOPE, self._usage)))
        self._next = 0
        self._due = self._loop.time() + self._timing.interval
        self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        if self._transport is None:
            return
        content = b'%b[{"index":0,"delta":{"content":"%019d %06d "},"finish_reason":null}]%b}'
        last = self._next == self._timing.chunks - 1
        stamp = time.monotonic_ns()
        chunk = _event(content % (_ENVELOPE, stamp, self._next, self._usage))
        self._transport.write(chunk + self._ending() if last else chunk)
        self._next += 1
        if not last and not self._timing.hold:
            self._due += self._timing.interval
            self._loop.call_at(self._due, self._tick)

    def _ending(self) -> bytes:
        finish = b'%b[{"index":0,"delta":{},"finish_reason":"stop"}]%b}' % (_ENVELOPE, self._usage)
        usage = _event(_ENVELOPE + _USAGE) if self._usage else b""
        return _event(finish) + usage + _event(b"[DONE]") + b"0\r\n\r\n"


async def serve(port: int, timing: Timing) -> None:
    """Serve until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: UpstreamProtocol(loop, timing), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.sse_upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=20)
    parser.add_argument("--hold", action="store_true")
    options = parser.parse_args()
    timing = Timing(options.chunks, options.interval_ms / 1000, options.hold)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, timing))


if __name__ == "__main__":
    main()

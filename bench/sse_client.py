"""A client of many concurrent streams that knows how late each chunk is.

Raw protocol on uvloop.  Every stream is checked: status 200, the chunks complete and in order,
`[DONE]`, and a clean end of the HTTP message.  Prints one JSON line; exit code 1 if any stream is not
sound.  With `--hold` it opens the streams, waits for the first chunk of each, prints `open` and stays.
"""

import argparse
import asyncio
import json
import re
import resource
import sys
import time
from collections.abc import Sequence
from typing import cast

import httptools
import uvloop

from bench.spread import percentile

OPEN = "open"
OPENS_PER_SECOND = 1000.0  # connections; a burst of thousands measures the listen queue
SLACK_SECONDS = 20.0  # beyond the stream's own length, before a stream counts as stuck

_STAMP = re.compile(rb'"content":"(\d{19}) (\d{6}) "')
_WORDS = "Please summarise the following paragraph about contract law in plain language. " * 16
_CLEAN_END = "complete"


class StreamProtocol(asyncio.Protocol):
    """One request and its stream."""

    def __init__(self, request: bytes, chunks: int) -> None:
        self._request = request
        self._chunks = chunks
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._now = 0
        self._done = False
        self._sent = 0
        self.first: asyncio.Future[int] = asyncio.get_running_loop().create_future()  # ns to first chunk
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # how it ended
        self.delays: list[int] = []  # ns, one per chunk

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherit from no ABC
        self._sent = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish(f"bad HTTP: {error!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"connection lost after {len(self.delays)} chunks: {exc!r}")

    def on_body(self, body: bytes) -> None:
        data = self._tail + body if self._tail else body
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            self._tail = data
            return
        self._tail = data[end:]
        events = data[:end]
        for stamp, number in _STAMP.findall(events):
            if int(number) != len(self.delays):
                self._finish(f"chunk {number.decode()} came as number {len(self.delays)}")
                return
            self.delays.append(self._now - int(stamp))
        if self.delays and not self.first.done():
            self.first.set_result(self._now - self._sent)
        if b"[DONE]" in events:
            self._done = True
        elif b'"error"' in events:
            self._finish(f"error event: {events[:200]!r}")

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._finish(f"status {status}: {self._tail[:200]!r}")
        elif len(self.delays) != self._chunks or not self._done:
            self._finish(f"ended after {len(self.delays)} of {self._chunks} chunks, [DONE]: {self._done}")
        else:
            self._finish(_CLEAN_END)

    def _finish(self, how: str) -> None:
        if not self.end.done():
            self.end.set_result(how)
        if not self.first.done():
            self.first.cancel()
        if self._transport is not None:
            self._transport.close()


def _request(user: int, extra: Sequence[str]) -> bytes:
    messages = [
        {"role": "system", "content": "You are the legal agent."},
        {"role": "user", "content": _WORDS},
    ]
    body = json.dumps({"model": "legal_agent", "messages": messages, "stream": True, "temperature": 0.7})
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Authorization: Bearer sk-bench\r\nAccept: text/event-stream\r\nX-Agent: legal_agent\r\n"
        f"X-User-Id: user-{user}\r\nContent-Length: {len(body)}\r\n"
    )
    return "".join((head, *(f"{header}\r\n" for header in extra), "\r\n", body)).encode()


async def _open(port: int, streams: int, chunks: int, spread: float, extra: Sequence[str]) -> list[StreamProtocol]:
    """Open all streams, evenly over `spread` seconds, with `extra` headers."""
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def one(number: int) -> StreamProtocol:
        await asyncio.sleep(begin + spread * number / streams - loop.time())
        _transport, protocol = await loop.create_connection(
            lambda: StreamProtocol(_request(number % 200, extra), chunks), "127.0.0.1", port
        )
        return protocol

    return await asyncio.gather(*map(one, range(streams)))


async def measure(
    port: int, streams: int, chunks: int, interval: float, extra: Sequence[str] = ()
) -> dict[str, object]:
    """Run all streams to their end; the result's `problems` is empty if all are sound."""
    begin = time.monotonic()
    spread = max(interval, streams / OPENS_PER_SECOND)
    protocols = await _open(port, streams, chunks, spread, extra)
    ends = [protocol.end for protocol in protocols]
    await asyncio.wait(ends, timeout=chunks * interval + spread + SLACK_SECONDS)
    hows = [end.result() if end.done() else "stuck" for end in ends]
    problems = [how for how in hows if how != _CLEAN_END]
    delays = [delay for protocol in protocols for delay in protocol.delays]
    firsts = [p.first.result() for p in protocols if p.first.done() and not p.first.cancelled()]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "chunks": len(delays),
        "delay_p50_us": percentile(delays, 0.5) / 1e3 if delays else None,
        "delay_p99_us": percentile(delays, 0.99) / 1e3 if delays else None,
        "first_p50_ms": percentile(firsts, 0.5) / 1e6 if firsts else None,
        "first_p99_ms": percentile(firsts, 0.99) / 1e6 if firsts else None,
        "seconds": time.monotonic() - begin,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "unsound": len(problems),
        "problems": problems[:5],
    }


async def hold(port: int, streams: int, per_second: float, extra: Sequence[str] = ()) -> str:
    """Open all streams, say so after the first chunk of each, and return the end of the first to end."""
    protocols = await _open(port, streams, 1, streams / per_second, extra)
    ends = [protocol.end for protocol in protocols]
    await asyncio.wait([protocol.first for protocol in protocols], timeout=SLACK_SECONDS)
    if all(protocol.first.done() for protocol in protocols) and not any(end.done() for end in ends):
        print(OPEN, flush=True)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    return next((end.result() for end in ends if end.done()), "a stream gave no first chunk")


def main() -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.sse_client", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=20)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--per-second", type=float, default=OPENS_PER_SECOND, help="streams opened, with --hold")
    parser.add_argument("--header", action="append", default=[], help="NAME: VALUE, sent with every request")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.hold:
            print(runner.run(hold(options.port, options.streams, options.per_second, options.header)), file=sys.stderr)
            return 1  # it ends by a signal, or because a stream ended
        interval = options.interval_ms / 1000
        result = runner.run(measure(options.port, options.streams, options.chunks, interval, options.header))
    print(json.dumps(result))
    return 1 if result["unsound"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""An upstream of fixed JSON answers that reads whole bodies, and fails on demand by the model it is asked for.

Raw protocol on uvloop, because it shares a core with the client.  Every tenth call of a model called
`fails-500-…`, `fails-reset-…` or `fails-silence-…` fails that way: an error at once, a reset in the middle of the
head (before it, a reused connection's reset means a stale one, and is no failure), no answer at all.
Its nginx counterpart answers before it has read the body, which tells nothing of large ones.
"""

import argparse
import asyncio
import re
import socket
import struct
from collections import Counter
from typing import cast

import uvloop

EVERY = 10  # calls of a failing model; never two in a row, so that no breaker opens

_FAILING = re.compile(rb'"model": ?"fails-(500|reset|silence)-')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WORDS = (
    b"The capital of France is Paris. It lies on the Seine, in the north of the country, and has been the capital "
    b"since the twelfth century. It is the largest city of the country by a wide margin, and the seat of its "
    b"government, of its courts and of most of its newspapers."
)
_BODY = (
    b'{"id":"cmpl-e5cc70bb28c444948073e77776eb30ef","object":"chat.completion","model":"open-mistral-7b",'
    b'"created":1702256327,"choices":[{"index":0,"message":{"role":"assistant","content":"%b"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":316,"completion_tokens":64,"total_tokens":380}}'
) % _WORDS
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 41\r\n\r\n"
    b'{"error":{"message":"the model is away"}}'
)
_HALF = b"HTTP/1.1 200 OK\r\nContent-Type: appl"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: closing sends RST


class UpstreamProtocol(asyncio.Protocol):
    """One connection: requests one after the other, each answered when its body is complete."""

    def __init__(self, calls: Counter[bytes]) -> None:
        self._calls = calls
        self._transport: asyncio.Transport | None = None
        self._head = b""  # what has come, until the head is complete
        self._missing = 0  # bytes of the body
        self._failing = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherit from no ABC

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._head + data if self._head else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            length = _LENGTH.search(data, 0, end)
            self._missing = (int(length[1]) if length else 0) - (len(data) - end - 4)
            # `model` is the first key of our bodies; where it comes in another segment, the call is sound.
            failing = _FAILING.search(data, end, end + 200)
            self._failing = failing[1] if failing else b""
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _answer(self) -> None:
        assert self._transport is not None
        how = self._failing
        if how:
            self._calls[how] += 1
            if self._calls[how] % EVERY:
                how = b""
        if not how:
            self._transport.write(_ANSWER)
        elif how == b"500":
            self._transport.write(_ERROR)
        elif how == b"reset":
            self._transport.write(_HALF)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()


async def serve(port: int) -> None:
    """Serve until ended."""
    loop = asyncio.get_running_loop()
    calls: Counter[bytes] = Counter()
    server = await loop.create_server(lambda: UpstreamProtocol(calls), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.json_upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port))


if __name__ == "__main__":
    main()

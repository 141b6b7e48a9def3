"""A raw client, the proxy and a raw upstream in a row: what goes in at one end and out at the other.

async with wire([Read(), Send(response(b"{}"))]) as line:
    answer = await line.ask(chat(b'{"model":"m","messages":[]}'))
    sent = line.sent()
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.lane import BASELINE_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import RawUpstream, Read, Script, Send, response

CHAT = "/v1/chat/completions"
AGENT = ("X-Agent", "qa_agent")
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
ANSWER = b'{"id":"a","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
ANSWERING = (Read(), Send(response(ANSWER)))  # the script of an upstream that is well

Fields = list[tuple[bytes, bytes]]


class Sent(NamedTuple):
    """A request as the upstream got it; the body without its chunk framing."""

    line: bytes
    headers: Fields
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        """The values of every header of that name, in any case."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Wire:
    """The three in a row."""

    client: RawClient
    lane: Lane
    upstream: RawUpstream

    async def ask(self, raw: bytes, size: int = 0) -> RawResponse:
        """Send a request, in pieces of `size` bytes where it is not 0, and read its response."""
        await self.client.send(raw, size)
        return await self.client.read_response()

    def sent(self) -> Sent:
        """The last request that the upstream has read."""
        return parse(self.upstream.requests[-1])


@asynccontextmanager
async def wire(script: Script = ANSWERING, **changes: Any) -> AsyncIterator[Wire]:
    """Run all three; `changes` are the policy's, as `policy_of` takes them."""
    async with (
        RawUpstream(script) as upstream,
        running(policy_of(upstream.url, **changes)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        yield Wire(client, lane, upstream)


def chat(
    body: bytes = BODY,
    headers: Sequence[tuple[str, str]] = (),
    *,
    target: str = CHAT,
    user: str = BASELINE_USER,
    agent: str = "qa_agent",
) -> bytes:
    """A chat request with a Content-Length."""
    return request("POST", target, body, [("X-Agent", agent), ("X-User-Id", user), *headers])


def chunked(target: str, pieces: Sequence[bytes], headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A POST whose body is chunked."""
    head = request("POST", target, b"", [*headers, ("Transfer-Encoding", "chunked")])
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


def parse(raw: bytes) -> Sent:
    """Take a request apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    fields = [(name, value.strip(b" \t")) for name, _, value in (each.partition(b":") for each in lines)]
    if any(name.lower() == b"transfer-encoding" for name, _ in fields):
        body = _unchunked(body)
    return Sent(line, fields, body)


def _unchunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return b"".join(pieces)
        pieces.append(body[:length])
        body = body[length + 2 :]

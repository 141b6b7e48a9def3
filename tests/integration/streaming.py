"""Streams as bytes, and a proxy whose fine-tune and baseline each have an upstream of their own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support.lane import BASELINE, FINETUNED_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import (
    Action,
    Pause,
    RawUpstream,
    Read,
    Script,
    Send,
    chunk,
    event_stream,
    head,
)

STREAM_HEAD = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
DONE = b"data: [DONE]\n\n"
COMMENT = b": still working\n\n"
CLEAN = Send(b"0\r\n\r\n")

Settings = dict[str, Any]


def event(data: dict[str, Any]) -> bytes:
    """One event of compact JSON."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def delta(finish: str | None = None, who: str = "candidate", **fields: Any) -> bytes:
    """A chunk with one choice; `fields` are its delta's, `finish` its reason."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return event({"id": who, "object": "chat.completion.chunk", "choices": [choice]})


def usage(prompt: int, completion: int, choices: object = ()) -> bytes:
    """The event that reports tokens."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"id": "candidate", "choices": choices, "usage": counts})


ROLE = delta(role="assistant", content="")
TEXT = delta(content="candidate ")
MORE = delta(content="more")
FINISH = delta("stop")
ANSWER = (ROLE, TEXT, MORE, FINISH)  # sound, but for what may follow

BASELINE_ANSWER = (
    delta(who="baseline", role="assistant"),
    delta(who="baseline", content="sound"),
    delta("stop", who="baseline"),
    DONE,
)
SOUND: list[Action] = [Read(), Send(event_stream(*BASELINE_ANSWER))]


# Long enough for the proxy to take what was sent before: the loop looks at its sockets between the two.
ARRIVED = (Pause(0.02), Pause(0.02))


def stream_then(*events: bytes, ending: Action | Sequence[Action]) -> list[Action]:
    """Answer a request with a chunk for each event, and after they have arrived `ending`."""
    opening = head(200, [*STREAM_HEAD, ("x-request-id", "candidate")])
    script: list[Action] = [Read(), Send(opening + b"".join(map(chunk, events)))]
    if isinstance(ending, Action):
        ending = [ending]
    return [*script, *ending] if ending[0] == CLEAN else [*script, *ARRIVED, *ending]


def chat(user: str = FINETUNED_USER, *, stream: bool = True, version: str = "1.1", **fields: Any) -> bytes:
    """A chat request; `fields` are more members of its body."""
    body = {"model": "qa_agent", "stream": stream, "messages": [{"role": "user", "content": "?"}], **fields}
    sent = request("POST", "/v1/chat/completions", json.dumps(body).encode(), [("X-User-Id", user)])
    return sent.replace(b"HTTP/1.1", b"HTTP/" + version.encode(), 1)


def events_of(body: bytes) -> list[bytes]:
    """The events of a body whose lines end with LF."""
    return [part + b"\n\n" for part in body.split(b"\n\n") if part]


def error_of(data: bytes) -> dict[str, Any]:
    """The error object of an event or a JSON body."""
    error = json.loads(data.removeprefix(b"data: "))["error"]
    assert isinstance(error, dict)
    return error


@dataclass
class Split:
    """A proxy between two scripted upstreams."""

    lane: Lane
    candidate: RawUpstream
    baseline: RawUpstream

    def client(self, **options: Any) -> RawClient:
        """A connection to the proxy."""
        return RawClient(self.lane.host, self.lane.port, **options)

    async def ask(self, sent: bytes | None = None) -> RawResponse:
        """What one request on a connection of its own gets; a streamed chat by default."""
        async with self.client() as client:
            await client.send(chat() if sent is None else sent)
            return await client.read_response()


@asynccontextmanager
async def split(
    candidate: Script,
    baseline: Script = SOUND,
    *,
    timeouts: Settings | None = None,
    pool: Settings | None = None,
    **changes: Any,
) -> AsyncIterator[Split]:
    """Serve with `changes` to the policy; `timeouts` and `pool` are those of both upstreams."""
    async with RawUpstream(candidate) as tuned, RawUpstream(baseline) as base:
        settings = {"timeouts": timeouts or {}, "pool": pool or {}}
        upstreams = {"up": settings, "base": {"base_url": base.url, **settings}}
        agents = {"qa_agent": {"fallback": {"upstream": "base", "model": BASELINE}}}
        async with running(policy_of(tuned.url, upstreams=upstreams, agents=agents, **changes)) as lane:
            yield Split(lane, tuned, base)


async def metric(lane: Lane, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels, from a scrape."""
    host, port = lane.admin_url.removeprefix("http://").split(":")
    async with RawClient(host, int(port)) as client:
        await client.send(request("GET", "/metrics"))
        page = (await client.read_response()).body.decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


BLOCK = chunk(delta(content="x" * 16_000))
BLOCK_BODY = len(delta(content="x" * 16_000))


class Firehose:
    """An upstream that streams content as fast as it is taken, and counts what it got rid of.

    `blocks` are events of about 16 kB; the stream then ends cleanly.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.sent = 0  # bytes that left this process in all streams
        self.closed = asyncio.Event()  # the proxy ended a stream before its end
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readuntil(b"]}")  # the end of what `chat` sends
                writer.write(head(200, STREAM_HEAD))
                for _ in range(self.blocks):
                    writer.write(BLOCK)
                    await writer.drain()
                    self.sent += len(BLOCK)
                writer.write(chunk(FINISH) + chunk(DONE) + CLEAN.data)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed.set()
        finally:
            writer.close()
            self._writers.discard(writer)


async def settled(value: Callable[[], int], quiet: float = 0.4, within: float = 10.0) -> int:
    """`value()` once it has not changed for `quiet` seconds."""
    async with asyncio.timeout(within):
        while True:
            before = value()
            await asyncio.sleep(quiet)
            if value() == before:
                return before

"""A stream's chunks on their way through: passed on as they are or parsed, they say the same."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, cast

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.exchange.reply import Reply
from proxy.outbox import Outbox
from proxy.policy.snapshot import TimeoutsPolicy
from proxy.upstream.connection import Connection
from proxy.words import Usage

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10}}\n\n'
DONE = b"data: [DONE]\n\n"
LAST = b"0\r\n\r\n"
TIMEOUTS = TimeoutsPolicy(*[1e9] * len(TimeoutsPolicy.__dataclass_fields__))


class Client:
    """Takes what is relayed, and reads it as a client would."""

    source: Any = None

    def __init__(self, *, chunked: bool) -> None:
        self.chunked = chunked
        self.body = b""
        self.as_they_are = 0
        self.ends: list[str] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def write(self, data: bytes) -> None:
        self._parser.feed_data(b"%x\r\n%b\r\n" % (len(data), data))

    def write_chunk(self, chunk: bytes) -> None:
        assert self.chunked
        self.as_they_are += 1
        self._parser.feed_data(chunk)

    def end(self) -> None:
        self._parser.feed_data(LAST)
        self.ends.append("end")

    def abort(self) -> None:
        self.ends.append("abort")

    def on_body(self, data: bytes) -> None:
        self.body += data


class Transport:
    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class Pool:
    def __init__(self) -> None:
        self.back: list[Connection] = []

    def released(self, connection: Connection) -> None:
        self.back.append(connection)

    def lost(self, connection: Connection) -> None: ...


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def relayed(
    loop: asyncio.AbstractEventLoop, reads: list[bytes], *, chunked: bool = True, strip_usage: bool = False
) -> tuple[Reply, Client, Pool]:
    """What becomes of a response that is read in these pieces."""
    pool, client = Pool(), Client(chunked=chunked)
    connection = Connection(loop, pool, Outbox(loop))
    connection.connection_made(cast("asyncio.Transport", Transport()))
    reply = Reply(loop, TIMEOUTS, 1e9)
    reply.expect_stream(strip_usage=strip_usage)
    connection.send(b"", reply, reply.begin(connection, loop.time()))
    for read in reads:
        connection.data_received(read)
        if reply.settled.done() and reply.finished is None:
            reply.relay_to(cast("Any", client), loop, 1e9)
    connection.watchdog.close()
    return reply, client, pool


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENTS = st.sampled_from(
    [
        CONTENT, USAGE, b": ping\n\n", b"data: 5\r\n\n\n", b"\n\n", b"5\r\n\n\n", b"a\r\n\n\n\r\n", b"data: x\r\n\r\n",
        b'data: "usage" and "error" in text\n\n', b'data: {"choices":[{"delta":{"content":"\\n\\n\\r\\n"}}]}\n\n',
    ]
)  # fmt: skip
# What an upstream writes as one chunk: events, often one, and not always to their end.
BODIES = st.lists(EVENTS, min_size=1, max_size=8).flatmap(
    lambda events: st.tuples(
        st.just(b"".join(events)),
        st.just([len(b"".join(events[: place + 1])) for place in range(len(events))])
        | st.lists(st.integers(1, len(b"".join(events))), max_size=6),
    )
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(BODIES, st.lists(st.integers(1, 900), max_size=8), st.booleans(), st.booleans(), st.booleans())
@example((CONTENT * 2, [len(CONTENT)]), [], True, True, False)
@example((USAGE, [1]), [], True, True, True)
@example((b"data: 5\r\n\n\n" + USAGE, [11]), [], True, True, True)
def test_what_is_cut_anywhere_arrives_whole(
    loop: asyncio.AbstractEventLoop,
    body: tuple[bytes, list[int]],
    places: list[int],
    at_chunks: bool,
    chunked: bool,
    strip_usage: bool,
) -> None:
    said, written = CONTENT + body[0] + DONE, [place + len(CONTENT) for place in body[1]]
    chunks = [chunk(piece) for piece in cut(said, [len(CONTENT), *written])]
    reads = [HEAD, *chunks, LAST] if at_chunks else cut(HEAD + b"".join(chunks) + LAST, places)
    reply, client, pool = relayed(loop, reads, chunked=chunked, strip_usage=strip_usage)
    if strip_usage:  # an empty line too many may stay or go with the usage behind it: it ends no event
        assert client.body.replace(b"\n", b"") == said.replace(USAGE, b"").replace(b"\n", b"")
    else:
        assert client.body == said
    assert client.ends == ["end"]
    assert reply.failure is None
    assert reply.ended
    assert len(pool.back) == 1, "the connection serves another request"
    if USAGE in body[0]:
        assert reply.usage == Usage(19, 10)
    if not chunked:
        assert not client.as_they_are


def test_whole_chunk_of_whole_events_is_passed_on_as_it_is(loop: asyncio.AbstractEventLoop) -> None:
    reads = [HEAD, *[chunk(CONTENT)] * 4, chunk(CONTENT * 3), chunk(USAGE), chunk(DONE), LAST]
    reply, client, _ = relayed(loop, reads)
    assert client.body == CONTENT * 7 + USAGE + DONE
    assert client.as_they_are == 3 + 1 + 1, "all but the first, which was held, and the one with usage"
    assert reply.content_events >= 7


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (b"%x;x=1\r\n%b\r\n" % (len(CONTENT), CONTENT), CONTENT),  # an extension
        (chunk(CONTENT)[:-1], CONTENT),  # cut short
        (chunk(CONTENT)[:3], b""),
        (chunk(CONTENT) + b"2", CONTENT),  # … and the next one's size has begun
        (chunk(CONTENT) + b"2f\r\n", CONTENT),
        (chunk(CONTENT) * 2, CONTENT * 2),
    ],
)
def test_any_other_is_parsed(loop: asyncio.AbstractEventLoop, odd: bytes, said: bytes) -> None:
    _, client, _ = relayed(loop, [HEAD, chunk(CONTENT), odd])
    assert client.body == CONTENT + said
    assert not client.as_they_are


@pytest.mark.parametrize("before", [b"", chunk(CONTENT)], ids=["alone", "behind a chunk"])
def test_data_that_looks_like_a_chunk_is_data(loop: asyncio.AbstractEventLoop, before: bytes) -> None:
    inner = chunk(CONTENT)
    reads = [HEAD, chunk(CONTENT), before + b"%x\r\n" % (2 * len(inner)), inner, inner, b"\r\n", LAST]
    _, client, _ = relayed(loop, [read for read in reads if read])
    assert client.body == CONTENT * (2 if before else 1) + inner * 2


def test_what_is_no_chunk_breaks_the_stream_off(loop: asyncio.AbstractEventLoop) -> None:
    reply, client, pool = relayed(loop, [HEAD, chunk(CONTENT), chunk(CONTENT), b"nonsense\n\n\r\n"])
    assert client.body.startswith(CONTENT * 2 + b"data: {")
    assert client.ends == ["abort"]
    assert reply.failure is not None
    assert not pool.back


def test_next_response_on_the_connection_begins_with_a_head(loop: asyncio.AbstractEventLoop) -> None:
    _, _, pool = relayed(loop, [HEAD, chunk(CONTENT), chunk(CONTENT), LAST])
    connection = pool.back[0]
    reply = Reply(loop, TIMEOUTS, 1e9)
    reply.expect_stream(strip_usage=False)
    connection.send(b"", reply, reply.begin(connection, loop.time()))
    client = Client(chunked=True)
    reply.relay_to(cast("Any", client), loop, 1e9)
    connection.data_received(chunk(CONTENT))
    assert reply.failure is not None
    assert not client.as_they_are


@pytest.mark.parametrize("rest", [b"", b"surplus"])
def test_connection_is_free_again_before_who_waits_goes_on(loop: asyncio.AbstractEventLoop, rest: bytes) -> None:
    pool = Pool()
    connection = Connection(loop, pool, Outbox(loop))
    connection.connection_made(cast("asyncio.Transport", Transport()))
    reply = Reply(loop, TIMEOUTS, 1e9)
    found: list[tuple[bool, int]] = []

    async def ask() -> None:
        connection.send(b"", reply, reply.begin(connection, loop.time()))
        await reply.settled
        found.append((connection.closed, len(pool.back)))

    async def arrives() -> None:
        task = asyncio.create_task(ask())
        await asyncio.sleep(0)
        went_on: list[int] = []
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + rest

        def arrive() -> None:
            connection.data_received(answer)
            went_on.append(len(found))

        loop.call_soon(arrive)
        await task
        await asyncio.sleep(0)
        assert went_on == [1], "within the callback that brought the answer"

    loop.run_until_complete(arrives())
    assert found == [(bool(rest), 0 if rest else 1)]
    assert reply.ended

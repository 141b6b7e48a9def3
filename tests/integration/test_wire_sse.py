"""ACCEPTANCE 4: a stream's bytes are the upstream's, however they are cut; no event waits for the next."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.lane import FINETUNED_USER
from tests.support.raw_upstream import Action, Close, Pause, Read, Send, Stall, chunk, head
from tests.support.wire import Wire, chat, wire

# The client asks for usage itself, so that nothing is added and nothing taken out.
ASKED = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
ENDS = {"lf": b"\n", "cr": b"\r", "crlf": b"\r\n"}
TYPE = ("content-type", "text/event-stream")
OPEN = head(200, [TYPE, ("transfer-encoding", "chunked")])
TERMINATOR = chunk(b"")

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
CONTENT = 'data: {"choices":[{"index":0,"delta":{"content":"Köln 東京 \\u00e9 \\/"}, "n":1.50}]}\n\n'.encode()
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
# Each line says something that a reader might get wrong.
EVENTS = [
    b"\xef\xbb\xbf: a comment behind a byte order mark\n\n",
    b": ping\n\n",
    b":\n:\n\n",
    b"retry: 3000\n\n",
    ROLE,
    b'id: 7\nevent: message\ndata: {"choices":[{"index":0,\ndata:"delta":{"content":"two lines"}}]}\n\n',
    CONTENT,
    b'data:{"choices":[{"delta":{"content":"no space"}}]}\n\n',
    b"\n\n",
    b"data\n\n",
    b"data:\n\n",
    b"unknown: field\nno colon\n\n",
    b"data: {malformed\n\n",
    b"data: [1, 2]\n\n",
    b"data: \xff\xfe not UTF-8\n\n",
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n',
    CONTENT,
    FINISH,
    USAGE,
    DONE,
]
WHOLE = b"".join(EVENTS)


def ended_by(data: bytes, end: bytes) -> bytes:
    """The same with other line endings."""
    return data.replace(b"\n", end)


def pieces_of(data: bytes, size: int) -> list[bytes]:
    """The same in pieces."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def in_chunks(data: bytes, size: int) -> bytes:
    """HTTP chunks of `size` bytes."""
    return b"".join(map(chunk, pieces_of(data, size)))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("layer", ["tcp", "http"])
async def test_fragmented_stream_keeps_its_bytes(end: bytes, size: int, layer: str) -> None:
    whole = ended_by(WHOLE, end)
    sends = [Send(OPEN + chunk(whole) + TERMINATOR, size)]
    if layer == "http":
        sends = [Send(OPEN), *(Send(chunk(piece), 1) for piece in pieces_of(whole, size)), Send(TERMINATOR)]
    async with wire([Read(), *sends]) as line:
        for _ in range(2):
            answer = await line.ask(chat(ASKED))
            assert answer.body == whole
            assert answer.clean_end
        assert len(line.upstream.connections) == 1


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(
    ("length", "size"), [(1 << 20, 0), (1 << 20, 65536), (1 << 20, 4093), (1 << 15, 7), (1 << 14, 1)]
)
async def test_long_event_keeps_its_bytes(end: bytes, length: int, size: int) -> None:
    text = "é東\\n ".encode()
    big = b'data: {"choices":[{"delta":{"content":"' + text * (length // len(text)) + b'"}}]}\n\n'
    whole = ended_by(ROLE + big + CONTENT + big + FINISH + DONE, end)
    async with wire([Read(), Send(OPEN + chunk(whole) + TERMINATOR, size)]) as line:
        answer = await line.ask(chat(ASKED))
        assert answer.body == whole
        assert answer.clean_end


@pytest.mark.parametrize("framing", ["length", "close"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_stream_that_is_not_chunked_keeps_its_bytes(framing: str, end: bytes) -> None:
    whole = ended_by(WHOLE, end)
    fields = [TYPE, ("content-length", str(len(whole)))] if framing == "length" else [TYPE]
    async with wire([Read(), Send(head(200, fields) + whole, 97), Close()]) as line:
        answer = await line.ask(chat(ASKED))
        assert (answer.body, answer.clean_end) == (whole, True)


async def test_last_event_without_a_blank_line_arrives() -> None:
    whole = ROLE + CONTENT + FINISH + b"data: [DONE]"
    async with wire([Read(), Send(OPEN + chunk(whole) + TERMINATOR, 5)]) as line:
        answer = await line.ask(chat(ASKED))
        assert (answer.body, answer.clean_end) == (whole, True)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=12),
    end=st.sampled_from(list(ENDS.values())),
    http=st.integers(1, 400),
    tcp=st.integers(1, 400),
)
async def test_any_stream_under_any_fragments_keeps_its_bytes(
    events: list[bytes], end: bytes, http: int, tcp: int
) -> None:
    whole = ended_by(b"".join([*events, CONTENT, FINISH, DONE]), end)
    async with wire([Read(), Send(OPEN + in_chunks(whole, http) + TERMINATOR, tcp)]) as line:
        answer = await line.ask(chat(ASKED, user=FINETUNED_USER))
        assert (answer.body, answer.clean_end) == (whole, True)
        assert len(line.upstream.requests) == 1


# --- nothing waits --------------------------------------------------------------------------------


async def receive(line: Wire, expected: bytes) -> None:
    """Read chunks until `expected` is there; TimeoutError where a part of it is held back."""
    seen = b""
    while len(seen) < len(expected):
        piece = await line.client.read_chunk()
        assert piece, "the stream ended"
        seen += piece
    assert seen == expected


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 30])
@pytest.mark.parametrize("before", [b"", ROLE, CONTENT], ids=["opening", "held", "committed"])
async def test_event_is_forwarded_while_the_upstream_is_silent_after_it(end: bytes, cut: int, before: bytes) -> None:
    """Readers that look for CRLF CRLF see an event with its last byte: that must not wait either."""
    whole = ended_by(before + CONTENT, end)
    at = len(whole) - cut
    script: list[Action] = [
        Read(),
        Send(OPEN + chunk(whole[:at])),
        Pause(0.05),
        *([Send(chunk(whole[at:]))] if cut else []),
    ]
    async with wire([*script, Stall(), Close()]) as line:
        await line.client.send(chat(ASKED))
        assert (await line.client.read_head()).status == 200
        await receive(line, whole)


@pytest.mark.parametrize(
    "event",
    [
        b"\xef\xbb\xbf" + CONTENT,
        b": ping\n" + CONTENT,
        b'event: x\ndata: {"choices":[{"index":0,\ndata: "delta":{"content":"two lines"}}]}\nid: 1\n\n',
        b'data:{"choices":[{"delta":{"content":"no space"}}]}\n\n',
        b"data: {malformed\n\n",
        b"data: \xff not UTF-8\n\n",
    ],
)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_first_content_is_recognised_in_any_spelling(event: bytes, end: bytes) -> None:
    whole = ended_by(event, end)
    async with wire([Read(), Send(OPEN + chunk(whole)), Stall(), Close()]) as line:
        await line.client.send(chat(ASKED))
        assert (await line.client.read_head()).status == 200
        await receive(line, whole)


@pytest.mark.parametrize("late", [b": ping\n\n", USAGE, b"data: {malformed\n\n", b"retry: 1\n\n", DONE])
@pytest.mark.parametrize("size", [0, 1])
async def test_event_without_content_is_forwarded_at_once_after_the_first_content(late: bytes, size: int) -> None:
    whole = CONTENT + late
    async with wire([Read(), Send(OPEN), Send(chunk(CONTENT)), Send(chunk(late), size), Stall(), Close()]) as line:
        await line.client.send(chat(ASKED))
        assert (await line.client.read_head()).status == 200
        await receive(line, whole)


async def test_role_and_comments_are_held_until_the_first_content() -> None:
    """DESIGN §1: only content commits; until then the headers wait too."""
    async with wire([Read(), Send(OPEN + chunk(b": ping\n\n" + ROLE)), Stall(), Close()]) as line:
        await line.client.send(chat(ASKED))
        assert await line.client.read_until_idle(0.1) == b""


@pytest.mark.parametrize("target", ["/v1/completions", "/v1/responses"])
async def test_passed_through_stream_is_not_cut_into_events(target: str) -> None:
    half = b'data: {"choices":[{"text":"a'
    async with wire([Read(), Send(OPEN + chunk(half)), Stall(), Close()]) as line:
        await line.client.send(chat(ASKED, target=target))
        assert (await line.client.read_head()).get(b"content-type") == b"text/event-stream"
        await receive(line, half)

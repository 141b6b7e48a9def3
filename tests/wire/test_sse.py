"""Events as bytes: however they are cut, the same ones come out.  ACCEPTANCE 4, 19, 21."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import (
    MAX_EVENT,
    EventKind,
    EventReader,
    event_data,
    has_content,
    parse_event,
    says_something,
)

CHUNK = b'data: {"choices":[{"delta":{"content":"\xe2\x82\xac"}}]}'
LINES = [
    CHUNK,
    b"data: [DONE]",
    b"data:no space",
    b"data:  two spaces",
    b"data",
    b"data:",
    b": a comment",
    b":",
    b"event: error",
    b"id: 7",
    b"retry: 10",
    b"datax: y",
    b"",
    b"\xef\xbb\xbfdata: x",
    b"data: \xff\xfe",
    b"data: a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f",  # line ends in Python's eyes, not in the standard's
]
ENDS = [b"\n", b"\r\n", b"\r"]


@st.composite
def streams(draw: st.DrawFn, ends: list[bytes]) -> bytes:
    """A stream of lines, blank ones among them, perhaps cut off at its end."""
    return b"".join(
        draw(st.sampled_from(LINES)) + draw(st.sampled_from(ends)) for _ in range(draw(st.integers(0, 12)))
    ) + draw(st.sampled_from([b"", b"\n", b"data: cut"]))


@st.composite
def cut(draw: st.DrawFn, stream: st.SearchStrategy[bytes]) -> list[bytes]:
    """A stream in pieces."""
    raw = draw(stream)
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


def read(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    """The events of a stream and what was left."""
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    assert reader.pending == bool(rest := reader.take_rest())
    assert not reader.pending
    return events, rest


def data_of(events: list[bytes]) -> list[bytes]:
    return [data for event in events if (data := event_data(event)) is not None]


def reference(raw: bytes) -> list[bytes]:
    """The data of each complete event, line by line as the standard's algorithm goes."""
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines[:-1]:  # the last one has no end yet
        field, _, value = line.partition(b":")
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return events


# --- cutting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [[b"\n"], [b"\r\n"], [b"\r"], ENDS], ids=["LF", "CRLF", "CR", "mixed"])
@given(draw=st.data())
def test_any_fragmentation_gives_the_same_events_and_loses_no_byte(
    ends: list[bytes], draw: st.DataObject
) -> None:
    pieces = draw.draw(cut(streams(ends)))
    raw = b"".join(pieces)
    events, rest = read(pieces)
    whole, _ = read([raw])
    assert b"".join(events) + rest == raw
    assert data_of(events) == data_of(whole)
    if ends == [b"\n"]:
        assert events == whole  # to the byte: no line end has two halves


@given(cut(streams(ENDS).filter(lambda raw: b"\xef\xbb\xbf" not in raw)))
def test_events_are_those_of_the_standard(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    if raw.endswith(b"\r"):
        raw += b"\n"  # whether a CR at the very end is a whole line end cannot be known
    events, _ = read(pieces)
    assert data_of(events) == reference(raw)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("end", ENDS)
def test_event_is_passed_on_with_the_byte_that_ends_it(size: int, end: bytes) -> None:
    reader = EventReader()
    raw = CHUNK + end + end
    done = len(CHUNK) + len(end) + 1  # a CR ends a line; its LF may come later or never
    for start in range(0, len(raw), size):
        before = bool(reader.feed(raw[start : start + size]))
        assert before == (start < done <= start + size)


def test_several_events_in_one_piece_come_apart() -> None:
    assert read([CHUNK + b"\n\n: ping\n\n" + CHUNK + b"\n\nda"]) == (
        [CHUNK + b"\n\n", b": ping\n\n", CHUNK + b"\n\n"],
        b"da",
    )


def test_megabyte_event_in_single_bytes_is_linear() -> None:
    raw = b'data: {"choices":[{"delta":{"content":"' + b"x" * 1024 * 1024 + b'"}}]}\n\n'
    reader = EventReader()
    started = time.perf_counter()
    events = [event for at in range(len(raw)) for event in reader.feed(raw[at : at + 1])]
    assert time.perf_counter() - started < 10  # 1 s or so; half a minute per pass where it is quadratic
    assert events == [raw]


@pytest.mark.parametrize(
    "raw", [b"\n\n" * 1_000_000, b"data: x\n" * 500_000, b"\r" * 1_000_000, b"\r\n" * 1_000_000]
)
def test_megabytes_of_tiny_lines_are_linear(raw: bytes) -> None:
    reader = EventReader()
    started = time.perf_counter()
    seen = sum(len(event) for at in range(0, len(raw), 4096) for event in reader.feed(raw[at : at + 4096]))
    assert time.perf_counter() - started < 5
    assert seen + len(reader.take_rest()) == len(raw)


def test_event_without_end_is_passed_on_in_bounded_pieces() -> None:
    reader = EventReader()
    piece = b"x" * 1_000_000
    given_up = b""
    fed = 0
    while fed < 3 * MAX_EVENT:
        given_up += b"".join(reader.feed(piece))
        fed += len(piece)
        assert fed - len(given_up) <= MAX_EVENT
    assert given_up + reader.take_rest() == b"x" * fed


# --- what an event says -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"\ndata: x\r\n\r", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\nid: 1\ndata\n\n", b"a\n"),
        (b"event: e\ndata: x\n\n", b"x"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"data: a\xe2\x80\xa8b\x0b\n\n", b"a\xe2\x80\xa8b\x0b"),
        (b"data:\n\n", b""),
        (b": ping\n\n", None),
        (b"datum: x\n\n", None),
        (b"event: ping\n\n", None),
        (b"\n\n", None),
        (b"", None),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes | None) -> None:
    assert event_data(event) == data


def delta(**fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def finish(reason: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


CONTENT = [
    delta(content="hi"),
    delta(content=" "),
    delta(role="assistant", content="hi"),
    delta(content=[{"type": "thinking", "thinking": []}]),
    delta(reasoning_content="hm"),
    delta(reasoning="hm"),
    delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
    delta(function_call={"name": "f"}),
    delta(refusal="no"),
    delta(audio={"id": "a"}),
    finish("stop"),
    finish("length"),
    finish("content_filter"),
    {"choices": [{"delta": {}}, {"delta": {"content": "second choice"}}]},
    {"choices": [{"text": "legacy"}]},
]
HELD = [
    delta(),
    delta(role="assistant"),
    delta(role="assistant", content=""),
    delta(content=None),
    delta(content="", tool_calls=[], refusal=None),
    {"choices": [{"index": 0}]},
    {"choices": [{"delta": None}]},
    {"choices": []},
    {"choices": [], "usage": {"prompt_tokens": 1}},
    {"choices": [], "prompt_filter_results": [{}]},
    {"id": "x"},
    {"error": None, "choices": []},
    {},
]
ERRORS = [
    {"error": {"message": "overloaded", "type": "server_error"}},
    {"error": "overloaded"},
    {"error": {"message": "m"}, "choices": []},
    {"object": "error", "message": "overloaded", "type": "service_unavailable", "code": "3505"},
]


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [(EventKind.CONTENT, each) for each in CONTENT]
    + [(EventKind.HELD, each) for each in HELD]
    + [(EventKind.ERROR, each) for each in ERRORS],
    ids=lambda given: given.value if isinstance(given, EventKind) else json.dumps(given),
)
def test_kind_of_a_chunk(kind: EventKind, chunk: dict[str, object]) -> None:
    raw = json.dumps(chunk).encode()
    assert parse_event(b"data: " + raw + b"\n\n") == (kind, chunk)
    assert parse_event(b"event: x\r\ndata:" + raw + b"\r\n\r\n") == (kind, chunk)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b"data: [DONE]\n\n", EventKind.DONE),
        (b"data:[DONE]\r\n\r\n", EventKind.DONE),
        (b": ping\n\n", EventKind.HELD),
        (b"data: \n\n", EventKind.HELD),
        (b"event: ping\ndata:\n\n", EventKind.HELD),
        (b'data: {"choices":[{"delta":{"content":"\n\n', EventKind.CONTENT),
        (b"data: hello\n\n", EventKind.CONTENT),
        (b"data: null\n\n", EventKind.CONTENT),
        (b"data: [1]\n\n", EventKind.CONTENT),
        (b'data: "\xff"\n\n', EventKind.CONTENT),
    ],
)
def test_event_that_is_no_chunk(event: bytes, kind: EventKind) -> None:
    assert parse_event(event) == (kind, None)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "error", "finish_reason"]), inner, max_size=3
        ),
    ),
)


@given(st.one_of(st.binary(), json_values.map(lambda value: json.dumps(value).encode())))
def test_no_event_is_too_odd_to_be_judged(data: bytes) -> None:
    kind, _ = parse_event(b"data: " + data + b"\n\n")
    assert kind in EventKind


@pytest.mark.parametrize("choices", [1, True, "x", {"0": {}}, [1], [None], [["x"]]])
def test_choices_of_an_odd_type_pass_as_content(choices: object) -> None:
    """Only the client may judge a malformed event."""
    kind, _ = parse_event(b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n")
    assert kind is EventKind.CONTENT


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"content": "x"}, True),
        ({"content": ""}, False),
        ({"role": "assistant"}, False),
        (None, False),
        ("x", False),
    ],
)
def test_message_says_something(message: object, says: bool) -> None:
    assert says_something(message) is says
    assert has_content({"delta": message}) is says

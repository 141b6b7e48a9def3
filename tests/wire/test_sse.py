"""Events as bytes: however they are cut, the same ones come out.  ACCEPTANCE 4, 19, 21."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import (
    MAX_EVENT,
    EventReader,
    event_data,
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
    b"data: \xff\xfe",
    b"data: a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f",  # line ends in Python's eyes, not in the standard's
]
ENDS = [b"\n", b"\r\n", b"\r"]
BOM = b"\xef\xbb\xbf"


@st.composite
def streams(draw: st.DrawFn, ends: list[bytes]) -> bytes:
    """A stream of lines, blank ones among them, perhaps with a BOM, perhaps cut off at its end."""
    bom = draw(st.sampled_from([b"", BOM]))
    return (
        bom
        + b"".join(draw(st.sampled_from(LINES)) + draw(st.sampled_from(ends)) for _ in range(draw(st.integers(0, 12))))
        + draw(st.sampled_from([b"", b"\n", b"data: cut"]))
    )


@st.composite
def cut(draw: st.DrawFn, stream: st.SearchStrategy[bytes]) -> list[bytes]:
    """A stream in pieces."""
    raw = draw(stream)
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


def read(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    """The events of a stream and what was left."""
    reader = EventReader()
    events: list[bytes] = []
    fed = given_back = 0
    for piece in pieces:
        found = reader.feed(piece)
        fed, given_back = fed + len(piece), given_back + sum(map(len, found))
        events += found
        assert reader.between == (fed == given_back and (not events or events[-1][-1:] != b"\r"))
    return events, reader.take_rest()


def data_of(events: list[bytes]) -> list[bytes]:
    return [data for event in events if (data := event_data(event)) is not None]


def reference(raw: bytes) -> list[bytes]:
    """The data of each complete event, line by line as the standard's algorithm goes."""
    lines = raw.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
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
@given(data=st.data())
def test_any_fragmentation_gives_the_same_events(ends: list[bytes], data: st.DataObject) -> None:
    pieces = data.draw(cut(streams(ends)))
    raw = b"".join(pieces)
    events, rest = read(pieces)
    whole, _ = read([raw])
    assert b"".join(events) + rest == raw
    assert data_of(events) == data_of(whole)
    if ends == [b"\n"]:
        assert events == whole  # to the byte: no line end has two halves


@given(cut(streams(ENDS)))
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
        # The LF of a CRLF may come by itself: it is passed on at once, and is no event.
        before = reader.feed(raw[start : start + size]) not in ([], [b"\n"])
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


@pytest.mark.parametrize("raw", [b"\n\n" * 1_000_000, b"data: x\n" * 500_000, b"\r" * 1_000_000, b"\r\n" * 1_000_000])
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

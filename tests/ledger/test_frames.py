"""Messages between the proxy and its writer."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.frames import Frames, frame

values = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner) | st.lists(inner, max_size=4),
    max_leaves=8,
)
messages = st.lists(st.tuples(st.text(), values), max_size=5)


@given(messages, st.lists(st.integers(0, 300)))
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: list[tuple[object, ...]], cuts: list[int]
) -> None:
    data = b"".join(map(frame, sent))
    edges = sorted({min(cut, len(data)) for cut in (0, *cuts, len(data))})
    frames = Frames()
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert [message for piece in pieces for message in frames.feed(piece)] == sent


def test_message_that_is_cut_off_never_comes() -> None:
    assert Frames().feed(frame(("written", "b-1", 5))[:-1]) == []


def test_what_is_no_plain_value_is_not_sent() -> None:
    with pytest.raises(ValueError, match="unmarshallable"):
        frame((object(),))

"""A whole chunk is what llhttp says it is."""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.chunk import is_whole_chunk

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"1\r\n!\r\n"
PIECES = st.sampled_from(
    [b"0", b"1", b"5", b"a", b"F", b"1f", b"00", b"ffffffff", b"g", b"+", b"_", b" ", b";x=1", b"\r", b"\n", b"\r\n",
     b"hello", b"\n\n", b"data: {}\n\n", b"\r\n0\r\n\r\n", b"\xb2"],
)  # fmt: skip


class Heard:
    """What llhttp makes of a body."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = [b""]
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.bodies[-1] += data

    def on_chunk_complete(self) -> None:
        self.bodies.append(b"")

    def on_message_complete(self) -> None:
        self.complete = True


def heard(data: bytes) -> list[bytes] | None:
    """The chunks in `data` and one behind it, the last of them incomplete; None: they are no chunks."""
    told = Heard()
    parser = httptools.HttpResponseParser(told)
    parser.feed_data(HEAD)
    try:
        parser.feed_data(data)
        parser.feed_data(NEXT)
    except httptools.HttpParserError:
        return None
    return None if told.complete else told.bodies


@given(st.binary(min_size=1, max_size=600), st.sampled_from(["%x", "%X", "%03x"]))
@example(b"x" * 0x1000000, "%x")
def test_plain_chunk_is_one(payload: bytes, size: str) -> None:
    data = (size % len(payload)).encode() + b"\r\n" + payload + b"\r\n"
    assert is_whole_chunk(data)
    assert not is_whole_chunk(data[:-1])
    assert not is_whole_chunk(data + b"\n")
    assert not is_whole_chunk(data + NEXT)


@given(st.lists(PIECES, max_size=8).map(b"".join) | st.binary(max_size=12))
@example(b"0\r\n\r\n")
@example(b"5\r\nhello\r\n")
@example(b"5;x=1\r\nhello\r\n")
@example(b"5\r\nhell\r\n\n")
@example(b"2\n\r\nab\r\n")
def test_nothing_is_one_that_llhttp_reads_otherwise(data: bytes) -> None:
    if is_whole_chunk(data):
        assert heard(data) == [data[data.index(b"\r\n") + 2 : -2], b"!", b""]


@pytest.mark.parametrize("digits", [8, 9, 40])
def test_size_has_few_digits(digits: int) -> None:
    assert not is_whole_chunk(b"5".rjust(digits, b"0") + b"\r\nhello\r\n")

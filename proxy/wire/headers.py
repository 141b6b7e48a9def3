"""Which header fields pass, on either side, and the few a proxy must read.  Source: RFC 9110 §7.6.1.

Fields are (name, value) byte pairs exactly as received; one that passes keeps its bytes, its
spelling and its place.  A block is such fields as they stand in a message, each with its CRLF.
"""

import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from typing import NamedTuple, TypeVar

Field = tuple[bytes, bytes]
T = TypeVar("T")

# Hop by hop: they describe one connection and reach neither side.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)

# Fields of a request that we read, or write anew for each upstream …
_REQUEST_READ = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"content-encoding",
    b"authorization",
    b"accept-encoding",
    b"baggage",
    b"x-stainless-read-timeout",
    b"x-splitlane-variant",
}
# … and those of them that pass as they came.
_REQUEST_PASSED = frozenset({b"content-encoding", b"baggage", b"x-stainless-read-timeout"})

# Spellings a sorter remembers; a peer that invents names cannot grow it further.
_REMEMBERED = 512
_EDGES = b" \t"


class RequestHeaders(NamedTuple):
    """A request's fields, sorted by what becomes of them."""

    passed: bytes  # the block that goes to every upstream
    read: dict[bytes, bytes]  # by lower-case name: the first of each
    hosts: int  # how many Host fields there were


NO_HEADERS = RequestHeaders(b"", {}, 0)


class RequestSorter:
    """Sorts requests' fields under one policy; what becomes of one depends on its name alone.

    All loops run in C: names come from few clients and are spelled the same way every time.
    """

    def __init__(self, identity: AbstractSet[bytes], *, forward: bool) -> None:
        """`identity` fields are read, and passed on only with `forward`; names in lower case."""
        kept = _REQUEST_PASSED | (identity - _REQUEST_READ if forward else frozenset())
        dropped = (_REQUEST_READ | identity) - kept
        self._passes = _ByName(lambda lower: lower not in dropped and lower[:6] != b"proxy-").__getitem__

    def sort(self, fields: Sequence[Field]) -> RequestHeaders:
        """Sort one request's fields."""
        if not fields:
            return NO_HEADERS
        names, values = zip(*fields, strict=True)
        lower = list(map(_lower, names))
        read = dict(zip(lower, values, strict=True))
        if len(read) < len(lower):
            read = dict(zip(reversed(lower), reversed(values), strict=True))  # the first of each
        if b"connection" in read and (listed := _listed(fields)):
            fields = [field for name, field in zip(lower, fields, strict=True) if name not in listed]
            names = tuple(name for name, _ in fields)
        block = b"".join(compress(map(_line, fields), map(self._passes, names)))
        return RequestHeaders(block, read, lower.count(b"host"))


def _listed(fields: Sequence[Field]) -> AbstractSet[bytes]:
    """The names that all `Connection` fields together list."""
    listed: AbstractSet[bytes] = _NO_TOKENS
    for name, value in fields:
        if _lower(name) == b"connection":
            listed |= connection_tokens(value.strip(_EDGES))
    return listed


class _ByName(dict[bytes, T]):
    """What a function of the lower-case name says, remembered by spelling.

    A peer that invents names does not make it grow.
    """

    def __init__(self, tell: Callable[[bytes], T]) -> None:
        super().__init__()
        self._tell = tell

    def __missing__(self, name: bytes) -> T:
        told = self._tell(name.lower())
        if len(self) < _REMEMBERED:
            self[name] = told
        return told


_lower = _ByName[bytes](lambda lower: lower).__getitem__
_line = b"%b: %b\r\n".__mod__

# The lines of a response that are dropped; a `Connection` that lists other fields is left standing.
_DROPPED_LINE = re.compile(
    rb"^(?:(?:content-length|transfer-encoding|keep-alive|proxy-[a-z-]+|te|trailer|upgrade|expect):[^\r\n]*"
    rb"|connection:[ \t]*(?:keep-alive|close)[ \t]*)\r\n",
    re.IGNORECASE | re.MULTILINE,
)


def response_block(head: bytes) -> bytes:
    """The fields of an upstream's response that reach the client; `head` is the lines of its own."""
    block = _DROPPED_LINE.sub(b"", head)
    if b"connection:" not in block.lower():
        return block
    lines = block.splitlines(keepends=True)
    listed = {b"connection"} | _listed([_split(line) for line in lines])
    return b"".join([line for line in lines if _split(line)[0].lower() not in listed])


def _split(line: bytes) -> Field:
    name, _, value = line.partition(b":")
    return name, value.strip()


def response_field(head: bytes, name: bytes) -> bytes:
    """The first value of a field by lower-case name, in lower case; b"" where there is none."""
    for line in head.splitlines():
        spelling, value = _split(line)
        if spelling.lower() == name:
            return value.lower()
    return b""


_NO_TOKENS: frozenset[bytes] = frozenset()
# What `Connection` nearly always says; neither word names another field.
_PLAIN = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})


def connection_tokens(value: bytes) -> AbstractSet[bytes]:
    """The field names that a `Connection` value lists, in lower case."""
    if value in _PLAIN:
        return _NO_TOKENS
    return {token.strip(_EDGES) for token in value.lower().split(b",")} - {b"close", b"keep-alive", b""}


def baggage_member(value: bytes, key: bytes) -> bytes | None:
    """One member of a W3C `baggage` field, percent-decoded; properties after `;` are ignored."""
    for member in value.split(b","):
        name, equals, rest = member.partition(b"=")
        if equals and name.strip(_EDGES) == key:
            return _percent_decoded(rest.partition(b";")[0].strip(_EDGES))
    return None


def _percent_decoded(value: bytes) -> bytes:
    """What is no escape stands for itself."""
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), value) if b"%" in value else value


_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

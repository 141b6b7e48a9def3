"""Which header fields pass, on either side, and the few a proxy must read.  Source: RFC 9110 §7.6.1.

Fields are (name, value) byte pairs exactly as received; one that passes keeps its bytes, its
spelling and its place.  A block is such fields as they stand in a message, each with its CRLF.
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

Field = tuple[bytes, bytes]

# Hop by hop: they describe one connection and reach neither side.
HOP_BY_HOP: Final = frozenset(
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
_REQUEST_READ: Final = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"content-encoding",
    b"authorization",
    b"accept-encoding",
    b"baggage",
    b"traceparent",
    b"x-stainless-read-timeout",
    b"x-splitlane-variant",
}
# … and those of them that pass as they came.
_REQUEST_PASSED: Final = frozenset({b"content-encoding", b"baggage", b"traceparent", b"x-stainless-read-timeout"})
# Fields of which all count, joined: a second `traceparent` makes both void.
_JOINED: Final = frozenset({b"connection", b"traceparent"})

# Spellings a sorter remembers; a peer that invents names cannot grow it further.
_REMEMBERED: Final = 512
_EDGES: Final = b" \t"


@dataclass(init=False)
class RequestHeaders:
    """A request's fields, sorted by what becomes of them."""

    passed: bytes  # the block that goes to every upstream
    read: dict[bytes, bytes]  # by lower-case name: the first of each, save those that are joined
    hosts: int  # how many Host fields there were

    def __init__(self, passed: bytes, read: dict[bytes, bytes], hosts: int) -> None:
        self.passed = passed
        self.read = read
        self.hosts = hosts


NO_HEADERS: Final = RequestHeaders(b"", {}, 0)


class RequestSorter:
    """Sorts requests' fields under one policy; what becomes of one depends on its name alone.

    A plain loop over a plain dict: measured, every cleverer way with zip and map took three times as long.
    """

    def __init__(self, identity: AbstractSet[bytes], *, forward: bool) -> None:
        """`identity` fields are read, and passed on only with `forward`; names in lower case."""
        self._read = _REQUEST_READ | identity
        self._kept = _REQUEST_PASSED | (identity - _REQUEST_READ if forward else frozenset())
        # By spelling: the lower-case name of a field that is read, None for one that just passes.
        self._known: dict[bytes, bytes | None] = {}

    def sort(self, fields: Sequence[Field]) -> RequestHeaders:
        """Sort one request's fields."""
        known = self._known
        passed: list[Field] = []
        read: dict[bytes, bytes] = {}
        hosts = 0
        for field in fields:
            name = field[0]
            try:
                lower = known[name]
            except KeyError:
                lower = self._look_at(name)
            if lower is None:
                passed.append(field)
                continue
            if lower in self._kept:
                passed.append(field)
            if lower not in read:
                read[lower] = field[1]
            elif lower == b"host":
                hosts += 1
            elif lower in _JOINED:
                read[lower] += b"," + field[1]
        if b"host" in read:
            hosts += 1
        if b"connection" in read and (listed := connection_tokens(read[b"connection"])):
            passed = [field for field in passed if field[0].lower() not in listed]
        return RequestHeaders(b"".join(map(_line, passed)), read, hosts)

    def _look_at(self, name: bytes) -> bytes | None:
        lower = name.lower()
        read = lower if lower in self._read or lower.startswith(b"proxy-") else None
        if len(self._known) < _REMEMBERED:  # a peer that invents names does not make it grow
            self._known[name] = read
        return read


# RFC 9110 §4.2.3 and RFC 3986 §3.2.2: uri-host [ ":" port ].
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[\w.~!$&'()*+,;=:-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)


def is_host(value: bytes) -> bool:
    """Whether a `Host` field may have this value."""
    return _HOST.fullmatch(value) is not None


_line: Final = b"%b: %b\r\n".__mod__

# What becomes of a line of a response's head.  Most lines are the same in every response of an upstream.
_PASSES: Final = 0
_DROPPED: Final = 1
_LISTS: Final = 2  # it is a `Connection` that names other fields
_fates: Final[dict[bytes, int]] = {}


def response_block(head: bytes) -> bytes:
    """The fields of an upstream's response that reach the client; `head` is the lines of its own."""
    passed = []
    listed = _NO_TOKENS
    for line in head.split(b"\r\n"):
        fate = _fates.get(line)
        if fate is None:
            fate = _fate_of(line)
        if fate == _PASSES:
            passed.append(line)
        elif fate == _LISTS:
            listed |= connection_tokens(_split(line)[1])
    if listed:
        passed = [line for line in passed if _split(line)[0].lower() not in listed]
    return b"\r\n".join(passed)


def _fate_of(line: bytes) -> int:
    name, value = _split(line)
    lower = name.lower()
    if lower == b"connection":
        fate = _LISTS if connection_tokens(value) else _DROPPED
    else:
        dropped = lower == b"content-length" or lower in HOP_BY_HOP or lower.startswith(b"proxy-")
        fate = _DROPPED if dropped else _PASSES
    if len(_fates) >= _REMEMBERED:
        _fates.clear()  # full of dates and ids
    _fates[line] = fate
    return fate


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


_NO_TOKENS: Final[frozenset[bytes]] = frozenset()
# What `Connection` nearly always says; neither word names another field.
_PLAIN: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})


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


_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")

"""Which header fields pass, on either side, and the few a proxy must read.  Source: RFC 9110 §7.6.1.

Fields are (name, value) byte pairs exactly as received; one that passes keeps its bytes, its
spelling and its place.  A block is such fields as they stand in a message, each with its CRLF.
"""

from collections.abc import Iterable, Set
from typing import NamedTuple

Field = tuple[bytes, bytes]

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

_RESPONSE_DROPPED = HOP_BY_HOP | {b"content-length"}

# Spellings a sorter remembers; a peer that invents names cannot grow it further.
_REMEMBERED = 512
_EDGES = b" \t"


class RequestHeaders(NamedTuple):
    """A request's fields, sorted by what becomes of them."""

    passed: bytes  # the block that goes to every upstream
    read: dict[bytes, bytes]  # by lower-case name: the first of each that we act on
    hosts: int  # how many Host fields there were


NO_HEADERS = RequestHeaders(b"", {}, 0)


class RequestSorter:
    """Sorts requests' fields under one policy.

    What becomes of a field depends on its name alone, so each spelling is looked at once.
    """

    def __init__(self, identity: Set[bytes], *, forward: bool) -> None:
        """`identity` fields are read, and passed on only with `forward`; names in lower case."""
        self._read = _REQUEST_READ | identity
        self._passed = _REQUEST_PASSED | (identity - _REQUEST_READ if forward else frozenset())
        # spelling → lower-case name where the field is read, None where it just passes
        self._known: dict[bytes, bytes | None] = {}

    def sort(self, fields: Iterable[Field]) -> RequestHeaders:
        """Sort one request's fields."""
        known = self._known
        passed: list[bytes] = []
        read: dict[bytes, bytes] = {}
        hosts = 0
        for field in fields:
            name, value = field
            try:
                lower = known[name]
            except KeyError:
                lower = self._look_at(name)
            if lower is None:
                passed += (name, b": ", value, b"\r\n")
                continue
            if lower in self._passed:
                passed += (name, b": ", value, b"\r\n")
            if lower == b"host":
                hosts += 1
            elif lower == b"connection" and lower in read:
                value = read[lower] + b"," + value
                del read[lower]
            if lower not in read:
                read[lower] = value
        connection = read.get(b"connection")
        block = b"".join(passed)
        if connection is not None and (listed := connection_tokens(connection)):
            block = _without(passed, listed)
        return RequestHeaders(block, read, hosts)

    def _look_at(self, name: bytes) -> bytes | None:
        lower = name.lower()
        read = lower if lower in self._read else None
        if len(self._known) < _REMEMBERED:
            self._known[name] = read
        return read


# spelling of a response's field → lower-case name where it is dropped, None where it passes
_response_known: dict[bytes, bytes | None] = {}


def response_block(fields: Iterable[Field]) -> bytes:
    """The block of an upstream's response that reaches the client."""
    known = _response_known
    passed: list[bytes] = []
    connection = b""
    for name, value in fields:
        try:
            lower = known[name]
        except KeyError:
            lower = name.lower()
            lower = lower if lower in _RESPONSE_DROPPED else None
            if len(known) < _REMEMBERED:
                known[name] = lower
        if lower is None:
            passed += (name, b": ", value, b"\r\n")
        elif lower == b"connection":
            connection += b"," + value
    if connection and (listed := connection_tokens(connection[1:])):
        return _without(passed, listed)
    return b"".join(passed)


def block(fields: Iterable[Field]) -> bytes:
    """Fields of our own as a block."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _without(passed: list[bytes], listed: Set[bytes]) -> bytes:
    """The block of `passed` (name, separator, value, CRLF, name, …) without the listed names."""
    lines = [passed[at : at + 4] for at in range(0, len(passed), 4)]
    return b"".join([piece for line in lines if line[0].lower() not in listed for piece in line])


_NO_TOKENS: frozenset[bytes] = frozenset()
# What `Connection` nearly always says; neither word names another field.
_PLAIN = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})


def connection_tokens(value: bytes) -> Set[bytes]:
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
    if b"%" not in value:
        return value
    head, *rest = value.split(b"%")
    pieces = [head]
    for piece in rest:
        try:
            pieces.append(bytes.fromhex(piece[:2].decode("ascii")) + piece[2:])
        except ValueError:
            pieces.append(b"%" + piece)
    return b"".join(pieces)

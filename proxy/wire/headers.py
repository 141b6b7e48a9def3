"""Which header fields pass, on either side, and the few a proxy must read.  Source: RFC 9110 §7.6.1.

Fields are (name, value) byte pairs exactly as received; a field that passes keeps its bytes, its
spelling and its place.
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

# Fields of a request that we read, or write anew for each upstream.
_REQUEST_READ = frozenset(
    {b"host", b"content-length", b"content-encoding", b"authorization", b"accept-encoding", b"baggage",
     b"x-stainless-read-timeout", b"x-splitlane-variant"}
)  # fmt: skip
# … of which these pass to the upstream as they came.
_REQUEST_PASSED = frozenset({b"content-encoding", b"baggage", b"x-stainless-read-timeout"})

RESPONSE_DROPPED = HOP_BY_HOP | {b"content-length"}

_TOKEN_LIST_EDGES = b" \t"


class RequestHeaders(NamedTuple):
    """A request's fields, sorted by what becomes of them."""

    passed: list[Field]  # to the upstream, in order
    read: dict[bytes, bytes]  # by lower-case name: the first of each that we act on
    hosts: int  # how many Host fields there were


def sort_request_headers(fields: Iterable[Field], identity: Set[bytes], *, forward: bool) -> RequestHeaders:
    """Sort a request's fields; `identity` ones are read, and passed on only with `forward`."""
    passed: list[Field] = []
    read: dict[bytes, bytes] = {}
    hosts = 0
    listed: set[bytes] | None = None
    for field in fields:
        name = field[0].lower()
        if name in HOP_BY_HOP:
            if name == b"connection":
                listed = (listed or set()) | connection_tokens(field[1])
            read.setdefault(name, field[1])
        elif name in _REQUEST_READ:
            read.setdefault(name, field[1])
            if name in _REQUEST_PASSED:
                passed.append(field)
            elif name == b"host":
                hosts += 1
        elif name in identity:
            read.setdefault(name, field[1])
            if forward:
                passed.append(field)
        else:
            passed.append(field)
    if listed:
        passed = [field for field in passed if field[0].lower() not in listed]
    return RequestHeaders(passed, read, hosts)


def response_headers(fields: Iterable[Field]) -> list[Field]:
    """The fields of an upstream's response that reach the client."""
    passed: list[Field] = []
    listed: set[bytes] | None = None
    for field in fields:
        name = field[0].lower()
        if name not in RESPONSE_DROPPED:
            passed.append(field)
        elif name == b"connection":
            listed = (listed or set()) | connection_tokens(field[1])
    if listed:
        passed = [field for field in passed if field[0].lower() not in listed]
    return passed


# What `Connection` commonly lists; neither names another field.
_PLAIN_CONNECTION = {b"keep-alive": frozenset[bytes](), b"close": frozenset[bytes]()}


def connection_tokens(value: bytes) -> Set[bytes]:
    """The field names that a `Connection` value lists, in lower case."""
    value = value.lower()
    plain = _PLAIN_CONNECTION.get(value)
    if plain is not None:
        return plain
    return {token.strip(_TOKEN_LIST_EDGES) for token in value.split(b",")} - {b"close", b"keep-alive", b""}


def baggage_member(value: bytes, key: bytes) -> bytes | None:
    """One member of a W3C `baggage` field, percent-decoded; properties after `;` are ignored."""
    for member in value.split(b","):
        name, equals, rest = member.partition(b"=")
        if equals and name.strip(_TOKEN_LIST_EDGES) == key:
            return _percent_decoded(rest.partition(b";")[0].strip(_TOKEN_LIST_EDGES))
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

"""Header fields, either side's: what is read of them, and which pass.

Laws: no error; what passes is a part of what came, in its order, each line as it was; nothing that belongs to one hop
or that `Connection` lists is in it; a wait is a number of seconds, and never negative.
"""

import re
from math import isnan
from types import SimpleNamespace
from typing import Any

from proxy.exchange.attempts import retry_after
from proxy.exchange.exchange import _seconds
from proxy.split.identity import split_agent_path
from proxy.wire.headers import (
    HOP_BY_HOP,
    Field,
    RequestSorter,
    baggage_member,
    connection_tokens,
    response_block,
    response_field,
)
from proxy.wire.traceparent import parse_traceparent, traceparent, without_caller

TOKENS = (
    b"Connection: ", b"connection:", b"keep-alive", b"close", b"x-user-id", b"X-User-Id: u\r\n", b"Host: a\r\n",
    b"TE: trailers\r\n", b"Proxy-Thing: x\r\n", b"Trailer: x\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n",
    b"Keep-Alive: timeout=5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Set-Cookie: a=b\r\n",
    b"baggage: ", b"user_id=u", b"user_id", b"%20", b"%", b"%2", b"%zz", b"=", b";", b",", b" ", b"\t", b":", b"\r\n",
    b"traceparent: ", b"tracestate: a=b\r\n", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", b"-",
    b"retry-after: ", b"retry-after-ms: ", b"1.5", b"-1", b"1e400", b"nan", b"inf", b"1_0",
    b"Fri, 31 Dec 1999 23:59:59 GMT", b"Mon, 01 Jan 0001 00:00:00 -0000", b"9" * 20, b"+9999", b"/agents/",
    b"/agents/a/v1/x", b"?", b"\x00", b"\xff", b"\xd9\xa1",
)  # fmt: skip

_IDENTITY = frozenset({b"x-user-id", b"x-agent"})
_SORTERS = {forward: RequestSorter(_IDENTITY, forward=forward) for forward in (False, True)}
_TRIMMED = b" \t"
# What llhttp lets through: other bytes never come here.
_PARSED = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


def check(data: bytes) -> None:
    """`data` is a block of fields, one a line; each value is also read as everything that a value can be."""
    lines = [line.partition(b":") for line in re.split(rb"\r\n|\r|\n", data) if _PARSED.fullmatch(line)]
    fields = [(name, value.strip(_TRIMMED)) for name, _, value in lines]
    _check_request(fields)
    _check_response(fields)
    for _, value in fields:
        _check_value(value)
    _check_value(data)


def _listed(fields: list[Field]) -> set[bytes]:
    values = [value for name, value in fields if name.lower() == b"connection"]
    tokens = {token.strip(_TRIMMED) for value in values for token in value.lower().split(b",")}
    assert tokens - {b"close", b"keep-alive", b""} == set().union(*map(connection_tokens, values))
    return tokens - {b"close", b"keep-alive"}


def _check_request(fields: list[Field]) -> None:
    listed = _listed(fields)
    for forward, sorter in _SORTERS.items():
        found = sorter.sort(fields)
        assert found.hosts == sum(name.lower() == b"host" for name, _ in fields)
        ours = HOP_BY_HOP | {b"host", b"content-length", b"authorization", b"accept-encoding", b"x-splitlane-variant"}
        ours = ours if forward else ours | _IDENTITY
        passed = [
            (name, value)
            for name, value in fields
            if name.lower() not in ours | listed and not name.lower().startswith(b"proxy-")
        ]
        assert found.passed == b"".join(b"%b: %b\r\n" % field for field in passed)
        for name in _IDENTITY:  # `Connection` removes no identity
            assert found.read.get(name) == next((value for spelled, value in fields if spelled.lower() == name), None)


def _check_response(fields: list[Field]) -> None:
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    block = response_block(head)
    dropped = HOP_BY_HOP | {b"content-length"} | _listed(fields)
    kept = [field for field in fields if field[0].lower() not in dropped and not field[0].lower().startswith(b"proxy-")]
    assert block == b"".join(b"%b: %b\r\n" % field for field in kept)
    for name in {name.lower() for name, _ in fields}:
        assert response_field(head, name) == next(value.lower() for found, value in fields if found.lower() == name)
    for state in (False, True):
        callers = {b"traceparent", b"tracestate"} if state else {b"traceparent"}
        others = [field for field in fields if field[0].lower() not in callers]
        assert without_caller(head, state=state) == b"".join(b"%b: %b\r\n" % field for field in others)


def _check_value(value: bytes) -> None:
    _check_baggage(value)
    caller = parse_traceparent(value)
    if caller is not None:
        assert parse_traceparent(traceparent(*caller)) == caller
    for field in (b"retry-after", b"retry-after-ms"):
        for now in (0.0, 1.8e9):
            reply: Any = SimpleNamespace(field=lambda asked, field=field: value if asked == field else b"")
            wait = retry_after(reply, now)
            assert wait is None or (wait >= 0 and not isnan(wait))
    seconds = _seconds(value)
    assert seconds > 0
    name, path = split_agent_path(value)
    assert (path == value) if name is None else (b"/agents/" + name + path == value)


def _check_baggage(value: bytes) -> None:
    """W3C Baggage §3.2, leniently: the first member of that name, decoded once, without its properties."""
    expected = None
    for member in value.split(b","):
        name, equals, rest = member.partition(b"=")
        if equals and name.strip(_TRIMMED) == b"user_id":
            expected = _decoded(rest.split(b";")[0].strip(_TRIMMED))
            break
    assert baggage_member(value, b"user_id") == expected


def _decoded(value: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(value):
        digits = value[at + 1 : at + 3]
        if value[at] == 0x25 and len(digits) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            out.append(int(digits, 16))
            at += 3
        else:
            out.append(value[at])
            at += 1
    return bytes(out)

"""The W3C `traceparent` field: who called, in which trace, and whether that trace is recorded.  Pure.

Source: W3C Trace Context, §3.2.  A value that breaks a rule tells nothing, and is never an error.
"""

import re
from typing import Final, NamedTuple

SAMPLED: Final = 0x01
# The flags that mean something: sampled, and (level 2) that the trace id is random.
KNOWN_FLAGS: Final = 0x03

_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZERO_TRACE: Final = b"0" * 32
_ZERO_SPAN: Final = b"0" * 16
# In a block of whole fields, each with its CRLF.
_LINE: Final = re.compile(rb"^traceparent:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_LINES: Final = re.compile(rb"^trace(?:parent|state):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


class Caller(NamedTuple):
    """The span that a request was sent by."""

    trace_id: str
    span: str
    flags: int


def parse_traceparent(value: bytes) -> Caller | None:
    """The caller; None where the value is none, or not to be trusted."""
    found = _FORM.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span, flags, more = found.groups()
    # Version 00 ends with the flags; of later ones the same four parts are read, and ff is none.
    if version == b"ff" or (more is not None and version == b"00") or trace_id == _ZERO_TRACE or span == _ZERO_SPAN:
        return None
    return Caller(trace_id.decode(), span.decode(), int(flags, 16) & KNOWN_FLAGS)


def traceparent(trace_id: str, span: str, flags: int) -> bytes:
    """The field's value that names `span` as the caller."""
    return f"00-{trace_id}-{span}-{flags:02x}".encode()


def without_caller(block: bytes, *, state: bool) -> bytes:
    """The block of fields without its `traceparent`, and with `state` without the `tracestate` that belongs to it."""
    return (_LINES if state else _LINE).sub(b"", block)

"""A strict reader of HTTP/1.1, written from RFC 9110 and 9112 and nothing else: what our parser is compared with.

It knows one way to read a message.  Whatever else it meets, it names the rule that is broken, and stops: `RULES` says
of each where it stands, and whether the RFC wants it refused.  `LENIENT` are the few that llhttp bends, where nothing
depends on it: the reader bends them, too.  Slow and simple on purpose; no code of `proxy` is used.
"""

import re
from typing import NamedTuple

MAX_HEAD = 64 * 1024
MAX_RESPONSE_HEAD = 128 * 1024  # … with the interim ones before it
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

# What is refused: MUST says the RFC wants it so, MAY that it leaves the choice, and refusing is ours; SOUND that it
# would have it served, and llhttp does not.
MUST, MAY, SOUND = "must", "may", "sound"
RULES: dict[str, tuple[str, str]] = {
    "request line": ("9112 §3", MUST),  # SHOULD, and 400 is what it names
    "version": ("9112 §2.3", MAY),  # of another major version 505 is proposed; a higher minor one may be served
    "method": ("9110 §9.1", MAY),  # 501 is proposed, and 405
    "target": ("9112 §3.2", MUST),
    "target in asterisk form": ("9112 §3.2.4", MAY),
    "line end": ("9112 §2.2", MAY),  # a bare LF; a bare CR only as a space
    "folded line": ("9112 §5.2", MAY),  # only as spaces
    "space before colon": ("9112 §5.1", MUST),
    "field name": ("9110 §5.1", MUST),
    "field value": ("9110 §5.5", MUST),
    "head too large": ("9110 §5.4", MAY),
    "host": ("9112 §3.2", MUST),
    "length and coding": ("9112 §6.1", MAY),  # only with the coding's framing, and as the last
    "coding in HTTP/1.0": ("9112 §6.1", MAY),  # likewise
    "coding": ("9112 §6.1", MUST),  # where chunked is not the last one
    "coding beside chunked": ("9112 §7", MAY),  # 501 is proposed
    "length": ("9112 §6.3", MUST),
    "length twice": ("9112 §6.3", MAY),  # where both are equal
    "length too large": ("9110 §8.6", MUST),
    "chunk size": ("9112 §7.1", MUST),
    "chunk size too large": ("9112 §7.1", MUST),
    "chunk extension": ("9112 §7.1.1", MUST),
    "space in a chunk's line": ("9112 §7.1.1", MAY),
    "chunk end": ("9112 §7.1", MUST),
    "trailer": ("9112 §7.1.2", MUST),
    "trailer that frames": ("9110 §6.5.1", MAY),  # nobody may send it
    "trailer that closes": ("9110 §6.5.1", MAY),  # likewise: served, and nothing behind it
    "tab behind a coding": ("9112 §5", SOUND),
    # of responses
    "status line": ("9112 §4", MUST),
    "body of an interim response": ("9110 §15.2", MAY),  # it has none, and what llhttp reads as one, is missing
    "switched protocols": ("9110 §15.2.2", MUST),  # nobody asked
}

OF_RESPONSES = {"status line", "switched protocols", "body of an interim response"}

# What is served though a rule is broken, and why that harms nobody.
LENIENT = {
    "spaces in the request line": "9112 §3 allows it; the upstream gets one space",
    "RTSP/1.1 and RTSP/1.0": "llhttp reads them as HTTP/1.1 and HTTP/1.0; so does the upstream, who gets HTTP/1.1",
    "lone CR or LF before a request line": "9112 §2.2 allows LF; there is no line that a CR could hide",
    "empty parts of a chunk's extension": "extensions end here, and the line's end is not in doubt",
    "an upstream's other version": "it frames the same; HTTP/1.0 with chunks, too, of which the connection is not kept",
    "an upstream's `chunked` in two fields": "the chunks are read once, and made anew",
    "any byte in an upstream's reason": "ours is sent instead",
    "`Transfer-Encoding` as an upstream's trailer": "trailers end here",
    "HTTP/1.0 with `close` and `keep-alive`": "kept, where it should close; both sides know the requests' ends",
}

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) +([\x21-\x7e]+) +(HTTP|RTSP)/([0-9])\.([0-9])" % _TOKEN)
_STATUS_LINE = re.compile(rb"(?:HTTP|RTSP)/(0\.9|1\.0|1\.1|2\.0) ([0-9]{3})(?: ([^\r\n]*))?")
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSIONS = re.compile(rb"(?:;(?:%b)?(?:=(?:%b|%b)?)?)*" % (_TOKEN, _TOKEN, _QUOTED))
_SPACED_EXTENSIONS = re.compile(
    rb"[ \t]*(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*[ \t]*" % (_TOKEN, _TOKEN, _QUOTED)
)
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[!$&'()*+,;=:\-._~0-9A-Za-z]+\]"
    rb"|(?:[!$&'()*+,;=\-._~0-9A-Za-z]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
_ABSOLUTE = re.compile(rb"https?://[^/?#]+((?:[/?].*)?)", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]


class Broken(Exception):  # noqa: N818 - a rule, not an error
    """The rule that is broken; the name is one of `RULES`."""


class Incomplete(Exception):  # noqa: N818 - no error either
    """The bytes end inside a message."""


class Message(NamedTuple):
    """A request or a response; `first` is method and target, or the status."""

    first: tuple[bytes, ...]
    fields: Fields
    body: bytes
    last: bool  # of its connection
    old: bool = False  # HTTP/1.0
    broken: str | None = None  # a rule that does not put its end in doubt

    def all(self, name: bytes) -> list[bytes]:
        """The values of every field of that lower-case name."""
        return [value for key, value in self.fields if key.lower() == name]


class Reading(NamedTuple):
    """The messages in a stream of bytes, and what ended it."""

    messages: list[Message]
    broken: str | None = None  # a rule
    incomplete: bool = False
    rest: bytes = b""  # behind the last one of a connection


def read_requests(data: bytes) -> Reading:
    """Read what a client sends on one connection."""
    messages: list[Message] = []
    at = 0
    try:
        while True:
            while data[at : at + 1] in (b"\r", b"\n"):
                at += 1
            if at >= len(data):
                return Reading(messages)
            message, at = _request(data, at)
            messages.append(message)
            if at < 0:
                return Reading(messages, broken="trailer that closes")
            if message.last:
                return Reading(messages, rest=data[at:])
    except Broken as broken:
        return Reading(messages, broken=str(broken))
    except Incomplete:
        return Reading(messages, incomplete=True)


def read_responses(data: bytes, methods: list[bytes], *, closed: bool = True) -> Reading:
    """Read what a server answers to requests of these methods; `closed`: and then it has closed."""
    messages: list[Message] = []
    at = 0
    try:
        for method in methods:
            if at >= len(data):
                return Reading(messages)
            message, at = _response(data, at, method, closed)
            messages.append(message)
            if message.last:
                break
        return Reading(messages, rest=data[at:])
    except Broken as broken:
        return Reading(messages, broken=str(broken))
    except Incomplete:
        return Reading(messages, incomplete=True)


def _request(data: bytes, at: int) -> tuple[Message, int]:
    if len(data) - at > MAX_HEAD and data.find(b"\r\n\r\n", at, at + MAX_HEAD) < 0:
        raise Broken("head too large")
    line, at = _line(data, at)
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Broken("request line")
    method, target, protocol, major, minor = found.groups()
    if protocol == b"RTSP" and method not in (b"GET", b"POST", b"OPTIONS"):
        raise Broken("request line")
    if major != b"1" or minor > b"1":
        raise Broken("version")
    fields, at = _fields(data, at)
    if method not in METHODS:
        raise Broken("method")
    target = _path(target)
    hosts = _all(fields, b"host")
    sound = len(hosts) <= 1 and (hosts or minor == b"0") and all(map(_HOST.fullmatch, hosts))
    chunked, length = _framing(fields, old=minor == b"0")
    body, at = _chunked(data, at) if chunked else _counted(data, at, length or 0)
    tokens = _list(_all(fields, b"connection"))
    last = b"keep-alive" not in tokens if minor == b"0" else b"close" in tokens
    if b"upgrade" in tokens and any(_all(fields, b"upgrade")):
        last = True  # it is served without, and nothing behind it
    return Message((method, target), fields, body, last, minor == b"0", None if sound else "host"), at


def _response(data: bytes, at: int, method: bytes, closed: bool) -> tuple[Message, int]:
    begin = at
    while True:
        while data[at : at + 1] in (b"\r", b"\n"):
            at += 1
        line, at = _line(data, at)
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise Broken("status line")
        version, code, _ = found.groups()
        fields, at = _fields(data, at)
        if at - begin > MAX_RESPONSE_HEAD:
            raise Broken("head too large")
        chunked, length = _framing(fields, old=False, response=True)
        status = int(code)
        if status == 101:
            raise Broken("switched protocols")
        if status < 100:
            raise Broken("status line")
        if status >= 200:
            break
        if status not in (100, 102, 103) and (chunked or length):
            raise Broken("body of an interim response")
    tokens = _list(_all(fields, b"connection"))
    last = b"close" in tokens or (version != b"1.1" and b"keep-alive" not in tokens)
    if method == b"HEAD" or status in (204, 304):
        body = b""
    elif chunked:
        body, at = _chunked(data, at, response=True)
    elif length is not None:
        body, at = _counted(data, at, length)
    elif closed:
        body, at, last = data[at:], len(data), True
    else:
        raise Incomplete
    return Message((code,), fields, body, last), at


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    """One line without its CRLF."""
    end = data.find(b"\r\n", at)
    line = data[at:] if end < 0 else data[at:end]
    if b"\n" in line or b"\r" in line.removesuffix(b"\r" if end < 0 else b""):
        raise Broken("line end")
    if end < 0:
        raise Incomplete
    return line, end + 2


def _fields(data: bytes, at: int) -> tuple[Fields, int]:
    fields: Fields = []
    while True:
        line, at = _line(data, at)
        if not line:
            return fields, at
        if line[:1] in (b" ", b"\t"):
            raise Broken("folded line" if fields else "field name")
        name, colon, value = line.partition(b":")
        if name != name.rstrip(b" \t"):
            raise Broken("space before colon")
        if not colon or _NAME.fullmatch(name) is None:
            raise Broken("field name")
        if _VALUE.fullmatch(value) is None:
            raise Broken("field value")
        fields.append((name, value.strip(b" ") if name.lower() == b"transfer-encoding" else value.strip(b" \t")))


def _path(target: bytes) -> bytes:
    """The path and query of a target in origin or absolute form."""
    if target.startswith(b"/"):
        return target
    if target == b"*":
        raise Broken("target in asterisk form")
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise Broken("target")
    return found[1] if found[1].startswith(b"/") else b"/" + found[1]


def _framing(fields: Fields, *, old: bool, response: bool = False) -> tuple[bool, int | None]:
    """Whether the body is chunked, and its length; None: neither is said."""
    codings, lengths = _all(fields, b"transfer-encoding"), _all(fields, b"content-length")
    if codings:
        if lengths:
            raise Broken("length and coding")
        if old:
            raise Broken("coding in HTTP/1.0")
        words = [word.strip(b" \t").lower() for word in b",".join(codings).split(b",")]
        if words != [b"chunked"] and not (response and {each.lower() for each in codings} == {b"chunked"}):
            ends = words[-1:] == [b"chunked"] and words.count(b"chunked") == 1
            raise Broken("coding beside chunked" if ends or response else "coding")
        if any(value.endswith(b"\t") for name, value in fields if name.lower() == b"transfer-encoding"):
            raise Broken("tab behind a coding")
        return True, None
    if not lengths:
        return False, None
    if len(lengths) > 1 or b"," in lengths[0]:
        same = {length.strip(b" \t") for length in b",".join(lengths).split(b",")}
        raise Broken("length twice" if len(same) == 1 and same.pop().isdigit() else "length")
    if re.fullmatch(rb"[0-9]+", lengths[0]) is None:
        raise Broken("length")
    length = int(lengths[0][-4000:])
    if length >= 1 << 64:
        raise Broken("length too large")
    return False, length


def _counted(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if len(data) - at < length:
        raise Incomplete
    return data[at : at + length], at + length


def _chunked(data: bytes, at: int, *, response: bool = False) -> tuple[bytes, int]:
    pieces = []
    while True:
        line, at = _line(data, at)
        digits = re.match(rb"[0-9A-Fa-f]*", line)
        assert digits is not None
        rest = line[digits.end() :]
        if not digits[0] or rest[:1] not in (b"", b";", b" ", b"\t"):
            raise Broken("chunk size")
        if _EXTENSIONS.fullmatch(rest) is None or rest.endswith(b";"):
            spaced = _SPACED_EXTENSIONS.fullmatch(rest)
            raise Broken("chunk extension" if spaced is None else "space in a chunk's line")
        if len(digits[0].lstrip(b"0")) > 16:
            raise Broken("chunk size too large")
        size = int(digits[0], 16)
        if not size:
            break
        piece, at = _counted(data, at, size)
        pieces.append(piece)
        if not data.startswith(b"\r\n", at):
            raise Incomplete if len(data) - at < 2 and b"\r\n".startswith(data[at:]) else Broken("chunk end")
        at += 2
    try:
        trailers, at = _fields(data, at)
    except Broken as broken:
        raise Broken("trailer") from broken
    if _all(trailers, b"content-length") or (_all(trailers, b"transfer-encoding") and not response):
        raise Broken("trailer that frames")
    if b"close" in _list(_all(trailers, b"connection")) and at < len(data) and not response:
        return b"".join(pieces), -1
    return b"".join(pieces), at


def _all(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _list(values: list[bytes]) -> list[bytes]:
    return [word.strip(b" \t").lower() for value in values for word in value.split(b",")]

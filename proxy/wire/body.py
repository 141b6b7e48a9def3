"""Find and replace members of a JSON object's bytes without re-serialising it.

Laws: every byte outside an edit survives; the work is linear and runs in C; what is not an object
is refused, what is an object with faults inside is left for the upstream to judge.

Two ways lead to the same answer.  A short body is parsed once, for its values, and its `model` is
found by searching; that is sound exactly when the bytes `"model"` stand in it once and no escape
could spell a second one.  Every other body is scanned member by member.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

_loads: Final = orjson.loads
_BACKSLASH: Final = 0x5C
# Stands for the values that take the most room, and that nobody asks for: who does has them parsed again.
_MESSAGES: Final = object()
# Deeper bodies are refused: no vendor accepts them, and a bound keeps the pattern finite.
MAX_DEPTH: Final = 64
# So many members are no chat request, but a way to keep the event loop busy.
MAX_MEMBERS: Final = 1000
# Longer bodies are scanned, not parsed: a parsed megabyte of small values takes fifty in memory.
PARSE_UP_TO: Final = 64 * 1024
# Of such a body, longer strings than this are cut out before the pattern reads it: it takes 9 ns a byte, and
# `find` a tenth of one; but a quote takes it as long as the pattern takes for `QUOTE` bytes.
LONG_STRING: Final = 256
QUOTE: Final = 128

_SPACE: Final = rb"[ \t\n\r]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_GAP: Final = rb'[^\[\]{}"]*+'


def _container(depth: int) -> bytes:
    """A pattern for an array or object nested up to `depth`, possessive: it never backtracks."""
    inner = b""
    for _ in range(depth):
        alternative = b"|" + inner + _GAP if inner else b""
        inner = rb"[\[{]" + _GAP + rb"(?:" + _STRING + _GAP + alternative + rb")*+[\]}]"
    return inner


_OPEN: Final = re.compile(_SPACE + rb"\{" + _SPACE)
_MODEL: Final = re.compile(rb'"model"' + _SPACE + rb":" + _SPACE + rb"(" + _STRING + rb")", re.DOTALL)


@cache
def member_pattern() -> re.Pattern[bytes]:
    """A top-level member and what follows it.  Made when it is first asked for: that takes 60 ms."""
    value = rb"(" + _STRING + rb'|[^ \t\n\r\[\]{}",:]++|' + _container(MAX_DEPTH) + rb")"
    return re.compile(
        rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE + value + _SPACE + rb"([,}])" + _SPACE, re.DOTALL
    )


class BodyError(Exception):
    """The body cannot be split; the message is for the caller and quotes nothing of the body."""


class Member(NamedTuple):
    """One top-level member; offsets into the body."""

    name: str
    start: int  # of the key's opening quote
    value: int  # of the value's first byte
    end: int  # past the value's last byte


class Edit(NamedTuple):
    """Replace body[start:end] by `new`."""

    start: int
    end: int
    new: bytes


class Body:
    """A JSON object's bytes, its top-level values, and where its `model` lies."""

    stream = False  # whether a stream is asked for
    model: tuple[int, int] | None = None  # where the value of `model` lies
    after_brace = 0
    _scanned = False  # values are parsed one by one, when they are asked for
    names: AbstractSet[str]
    _members: list[Member] | None = None
    _last: Mapping[str, Member] = MappingProxyType({})
    _values: dict[str, Any]

    def __init__(self, raw: bytes) -> None:
        """Read `raw`.  Raises BodyError: not an object, nested too deep, or two `model` members."""
        self.raw = raw
        if len(raw) > PARSE_UP_TO or not self._parse(raw):
            self._scan()
            self._scanned = True
            self._values = {}
            self.names = self._last.keys()
            self.stream = self.get("stream") is True
            model = self._last.get("model")
            self.model = None if model is None else (model.value, model.end)

    def get(self, name: str) -> Any:
        """A member's parsed value; None where it is absent or no JSON."""
        value = self._values.get(name)
        if value is _MESSAGES or (value is None and self._scanned and name in self.names and name not in self._values):
            value = self._values[name] = _parsed(self._slice(name))
        return value

    def text(self, name: str) -> bytes | None:
        """A string's UTF-8, or a number's digits as sent; None for anything else."""
        if name not in self.names:
            return None
        value = self.get(name)
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict | list | bool):
            return None
        return json_text(self._slice(name))

    def nested_text(self, name: str, key: str) -> bytes | None:
        """`text` of a member `key` of the object `name`."""
        nested = self.get(name)
        if not isinstance(nested, dict) or key not in nested:
            return None
        value = nested[key]
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict | list | bool) or value is None:
            return None
        raw = self._slice(name)
        _, members = _scan(raw)
        member = next(member for member in reversed(members) if member.name == key)
        return json_text(raw[member.value : member.end])

    def members(self) -> list[Member]:
        """Every member in order.  Raises BodyError."""
        if self._members is None:
            self._scan()
        assert self._members is not None
        return self._members

    def without(self, names: AbstractSet[str]) -> list[Edit]:
        """Edits that delete every member with one of `names`, each with one comma."""
        members = self.members()
        edits = []
        kept_end = -1
        for following, member in enumerate(members, 1):
            if member.name not in names:
                kept_end = member.end
            elif kept_end >= 0:
                edits.append(Edit(kept_end, member.end, b""))
                kept_end = member.end
            else:
                end = member.end if following == len(members) else members[following].start
                edits.append(Edit(member.start, end, b""))
        return edits

    def spliced(self, edits: list[Edit]) -> bytes:
        """The body with `edits` applied; they must not overlap."""
        edits.sort()
        pieces = []
        position = 0
        for start, end, new in edits:
            pieces.append(self.raw[position:start])
            pieces.append(new)
            position = end
        pieces.append(self.raw[position:])
        return b"".join(pieces)

    def _parse(self, raw: bytes) -> bool:
        """The short way; False where it would not be sound."""
        try:
            values = _loads(raw)
        except orjson.JSONDecodeError:
            return False
        if type(values) is not dict:
            return False
        if "model" in values:
            # An escape could spell the key again; its letters all lie in U+0060 to U+006F.
            if raw.count(b'"model"') != 1 or (_BACKSLASH in raw and raw.find(b"\\u006") >= 0):
                return False
            found = _MODEL.match(raw, raw.find(b'"model"'))
            if found is None:
                return False
            self.model = found.span(1)
        if type(values.get("messages")) is list:
            values["messages"] = _MESSAGES
        self._values = values
        self.names = values.keys()
        if values.get("stream") is True:
            self.stream = True
        return True

    def _slice(self, name: str) -> bytes:
        self.members()
        member = self._last[name]
        return self.raw[member.value : member.end]

    def _scan(self) -> None:
        """The long way: find every member by its bytes."""
        self.after_brace, self._members = _scan(self.raw)
        self._last = {member.name: member for member in self._members}
        if len(self._last) < len(self._members) and [member.name for member in self._members].count("model") > 1:
            raise BodyError("the request body has more than one `model`")


def inside(raw: bytes, name: str, value: bytes) -> bytes:
    """The object `raw` with its member `name` set to `value`, all other bytes as they are."""
    start, members = _scan(raw)
    for member in reversed(members):
        if member.name == name:
            return raw[: member.value] + value + raw[member.end :]
    comma = b"," if members else b""
    return b'%b"%b":%b%b%b' % (raw[:start], name.encode(), value, comma, raw[start:])


def _scan(raw: bytes) -> tuple[int, list[Member]]:
    """Where an object's brace ends, and its members in order.  Raises BodyError."""
    outline = _Outline(raw) if len(raw) > PARSE_UP_TO else None
    text = raw if outline is None else outline.text
    opening = _OPEN.match(text)
    if opening is None:
        raise BodyError("the request body must be a JSON object")
    start = position = opening.end()
    member = member_pattern()
    members: list[Member] = []
    closed = text[position : position + 1] == b"}"
    position += closed
    while not closed:
        found = member.match(text, position)
        if found is None:
            raise BodyError(f"the request body is not valid JSON, or is nested deeper than {MAX_DEPTH} levels")
        if len(members) == MAX_MEMBERS:
            raise BodyError(f"the request body has more than {MAX_MEMBERS} members")
        value, end = found.span(2)
        if outline is None:
            members.append(Member(_name(found[1]), position, value, end))
        else:
            key = outline.place(position)
            name = _name(raw[key : outline.place(found.end(1) - 1) + 1])
            members.append(Member(name, key, outline.place(value), outline.place(end - 1) + 1))
        position = found.end()
        closed = found[3] == b"}"
    if text[position:].strip(b" \t\n\r"):
        raise BodyError("the request body has bytes after the JSON object")
    return start, members


class _Outline:
    """A body without the insides of its long strings, and where what is left of it was.

    Outside of a string a quote always begins one, so quotes alone tell strings apart.  Where they stand close
    together, the rest of the body stays as it is.
    """

    def __init__(self, raw: bytes) -> None:
        self._cuts: list[int] = []  # where in the text something is missing, …
        self._missing: list[int] = [0]  # … and how much until there
        pieces: list[bytes] = []
        kept = length = missing = 0  # of the body: not yet taken; of the text; of the insides
        begin = -1  # of a string, or -1 between two
        last = -1
        patience = 100  # quotes that may still come close together
        quote = raw.find(b'"')
        while quote >= 0 and patience > 0:
            patience += (quote - last) // QUOTE - 1
            if begin < 0:
                begin = quote
            elif raw[quote - 1] != _BACKSLASH or not _is_odd(raw[last + 1 : quote]):
                if quote - begin > LONG_STRING:
                    pieces.append(raw[kept : begin + 1])
                    length += begin + 1 - kept
                    missing += quote - begin - 1
                    self._cuts.append(length)
                    self._missing.append(missing)
                    kept = quote
                begin = -1
            last = quote
            quote = raw.find(b'"', last + 1)
        pieces.append(raw[kept:])
        self.text = b"".join(pieces) if missing else raw

    def place(self, position: int) -> int:
        """Where in the body the text's byte at `position` stands."""
        return position + self._missing[bisect_right(self._cuts, position)]


def _is_odd(text: bytes) -> bool:
    """Whether the backslashes at the text's end are odd in number: the quote behind them ends no string."""
    return bool((len(text) - len(text.rstrip(b"\\"))) % 2)


def json_text(raw: bytes) -> bytes | None:
    """The text an identity is read from: a JSON string's UTF-8, a number's own digits."""
    if raw[:1] == b'"':
        value = _parsed(raw)
        # A lone surrogate is no text: the escapes, as sent, still tell users apart.
        return value.encode() if isinstance(value, str) else raw[1:-1]
    return raw if raw[:1] in _NUMBER_STARTS else None


_NUMBER_STARTS: Final = frozenset(b"%c" % byte for byte in b"-0123456789")


def _parsed(raw: bytes) -> Any:
    try:
        return _loads(raw)
    except orjson.JSONDecodeError:
        return None


def _name(quoted: bytes) -> str:
    """A key with its escapes resolved; one that is no text keeps its bytes, and means nothing to us."""
    name = _parsed(quoted)
    return name if isinstance(name, str) else quoted[1:-1].decode("latin-1")

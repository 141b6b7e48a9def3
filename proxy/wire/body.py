"""Find and replace members of a JSON object's bytes without parsing or re-serialising it.

Laws: the scan is linear and runs in the regular-expression engine; every byte outside an edit
survives; what is not an object is refused, what is an object with faults inside is left for the
upstream to judge.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

# Deeper bodies are refused: no vendor accepts them, and a bound keeps the pattern finite.
MAX_DEPTH = 64

_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_GAP = rb'[^\[\]{}"]*+'


def _container(depth: int) -> bytes:
    """A pattern for an array or object nested up to `depth`, possessive: it never backtracks."""
    inner = b""
    for _ in range(depth):
        alternative = b"|" + inner + _GAP if inner else b""
        inner = rb"[\[{]" + _GAP + rb"(?:" + _STRING + _GAP + alternative + rb")*+[\]}]"
    return inner


_OPEN = re.compile(_SPACE + rb"\{" + _SPACE)
_MEMBER = re.compile(
    rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE
    + rb'(' + _STRING + rb'|[^ \t\n\r\[\]{}",:]++|' + _container(MAX_DEPTH) + rb")"
    + _SPACE + rb"([,}])" + _SPACE,
    re.DOTALL,
)  # fmt: skip


class BodyError(Exception):
    """The body cannot be split; the message is for the caller and quotes nothing of the body."""


class Member(NamedTuple):
    """One top-level member; offsets into the body."""

    name: bytes  # escapes resolved
    start: int  # of the key's opening quote
    value: int  # of the value's first byte
    end: int  # past the value's last byte


class Edit(NamedTuple):
    """Replace body[start:end] by `new`."""

    start: int
    end: int
    new: bytes


class Body:
    """A JSON object's bytes and where its top-level members lie.

    `members` holds every member in order, `named` the last of each name, as JSON readers see it.
    """

    __slots__ = ("after_brace", "members", "named", "raw")

    def __init__(self, raw: bytes) -> None:
        """Scan `raw`.  Raises BodyError: not an object, nested too deep, or two `model` members."""
        opening = _OPEN.match(raw)
        if opening is None:
            raise BodyError("the request body must be a JSON object")
        self.raw = raw
        self.after_brace = position = opening.end()
        self.members: list[Member] = []
        self.named: dict[bytes, Member] = {}
        if raw[position : position + 1] == b"}":
            position = _end_of_object(raw, position + 1)
            return
        match = _MEMBER.match
        named, members = self.named, self.members
        while True:
            found = match(raw, position)
            if found is None:
                raise BodyError(
                    f"the request body is not valid JSON, or is nested deeper than {MAX_DEPTH} levels"
                )
            name = found[1][1:-1]
            if b"\\" in name:
                name = _unescaped(found[1])
            value, end = found.span(2)
            member = Member(name, position, value, end)
            if name == b"model" and name in named:
                raise BodyError("the request body has more than one `model`")
            members.append(member)
            named[name] = member
            position = found.end()
            if found[3] == b"}":
                break
        _end_of_object(raw, position)

    def slice(self, name: bytes) -> bytes | None:
        """The raw JSON of a member's value, or None where there is none."""
        member = self.named.get(name)
        return None if member is None else self.raw[member.value : member.end]

    def value(self, name: bytes) -> Any:
        """The parsed value of a member; None where it is absent or no JSON."""
        raw = self.slice(name)
        if raw is None:
            return None
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None

    def text(self, name: bytes) -> bytes | None:
        """A string's UTF-8, or a number's digits as sent; None for anything else."""
        raw = self.slice(name)
        return None if raw is None else json_text(raw)

    def without(self, names: Iterable[bytes]) -> list[Edit]:
        """Edits that delete every member with one of `names`, each with one comma."""
        drop = names if isinstance(names, frozenset) else frozenset(names)
        edits = []
        kept_end = -1
        for position, member in enumerate(self.members):
            if member.name not in drop:
                kept_end = member.end
            elif kept_end >= 0:
                edits.append(Edit(kept_end, member.end, b""))
                kept_end = member.end
            else:
                following = position + 1
                last = following == len(self.members)
                edits.append(Edit(member.start, member.end if last else self.members[following].start, b""))
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


def json_text(raw: bytes) -> bytes | None:
    """The text an identity is read from: a JSON string's UTF-8, a number's own digits."""
    first = raw[:1]
    if first == b'"':
        return raw[1:-1] if b"\\" not in raw else _unescaped(raw)
    if first in b"-0123456789":
        return raw
    return None


def members_text(raw: bytes | None) -> Mapping[bytes, bytes]:
    """`json_text` of each member of a nested object; empty where `raw` is no object."""
    if raw is None or raw[:1] != b"{":
        return {}
    try:
        nested = Body(raw)
    except BodyError:
        return {}
    texts = ((name, nested.text(name)) for name in nested.named)
    return {name: text for name, text in texts if text is not None}


def _unescaped(quoted: bytes) -> bytes:
    """Resolve a JSON string's escapes.  A lone surrogate is kept as the bytes it was sent as."""
    try:
        text: str = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        return quoted[1:-1]
    return text.encode()


def _end_of_object(raw: bytes, position: int) -> int:
    if raw[position:].strip(b" \t\n\r"):
        raise BodyError("the request body has bytes after the JSON object")
    return position

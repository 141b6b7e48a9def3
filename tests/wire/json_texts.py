"""Hypothesis strategies for JSON objects as bytes: odd spacing, escapes, duplicate keys.

An object is built together with what a reader must find in it, so nothing has to parse it to know.
"""

from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from proxy.wire.body import LONG_STRING, PARSE_UP_TO, Member

# A body is read in one of two ways, by its length: trailing spaces push a short one over the line.
both_ways = pytest.mark.parametrize("long", [False, True], ids=["short", "long"])


def sized(raw: bytes, long: bool) -> bytes:
    """`raw`, at the length that has it read the one way or the other."""
    return raw + b" " * (PARSE_UP_TO + 1) if long else raw


class Text(NamedTuple):
    """An object's bytes, where its members lie, and where the first one stands or would."""

    raw: bytes
    members: list[Member]
    after_brace: int

    @property
    def names(self) -> set[str]:
        return {member.name for member in self.members}


# What has fooled scanners: quotes, brackets and separators in strings, escapes beside their ends, strings that
# are stepped over, and everything that spells or nearly spells the key `model`.
_TRAPS = (
    "{", "}", "[", "]", ",", ":", "\\\\", '\\"', "\\/", "\\n", "\\u0022", "\\ud83d\\ude00", "é", "😊",
    "\u2028", "\x7f", "x" * LONG_STRING, "model", "mod\\u0065l", '\\"model\\"', '\\"model\\":\\"x\\"', "\\\\u0065",
)  # fmt: skip
_NAMES = ("model", "user", "seed", "messages", "stream_options", "", "Model", "mode", "é", "a,b", "}")
_SCALARS = (
    "null", "true", "false", "0", "-0", "42", "1.50", "-0.0e-7", "1E+2", "1e400", "12345678901234567890",
    "9" * 400,
)  # fmt: skip


def spelled(name: str, escaped: list[bool]) -> str:
    """`name` as a JSON string, some of its characters as escapes."""
    return '"' + "".join(f"\\u{ord(c):04X}" if e else c for c, e in zip(name, escaped, strict=True)) + '"'


# The key `model` with its first, middle and last letter escaped or not.
MODEL_KEYS = [
    spelled("model", [first, False, middle, False, last]).encode()
    for first, middle, last in product((False, True), repeat=3)
]

space = st.text(" \t\n\r", max_size=3)
names = st.sampled_from(_NAMES)
strings = st.lists(st.sampled_from(_TRAPS), max_size=4).map(lambda parts: '"' + "".join(parts) + '"')


@st.composite
def keys(draw: st.DrawFn, names: st.SearchStrategy[str]) -> tuple[str, str]:
    """A name and one of the ways to write it."""
    name = draw(names)
    plain = [False] * len(name)
    escapes = st.lists(st.booleans(), min_size=len(name), max_size=len(name))
    return name, spelled(name, draw(st.one_of(st.just(plain), escapes)))


@st.composite
def containers(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """An array or object of `values`."""
    is_object = draw(st.booleans())
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        key = draw(keys(names))[1] + draw(space) + ":" if is_object else ""
        parts.append(draw(space) + key + draw(space) + draw(values) + draw(space))
    inside = ",".join(parts) or draw(space)
    return "{" + inside + "}" if is_object else "[" + inside + "]"


values = st.recursive(st.one_of(strings, st.sampled_from(_SCALARS)), containers, max_leaves=6)


@st.composite
def objects(draw: st.DrawFn, names: st.SearchStrategy[str] = names) -> Text:
    """An object with at most one `model`."""
    raw = (draw(space) + "{" + draw(space)).encode()
    after_brace = len(raw)
    members: list[Member] = []
    for name, key in draw(st.lists(keys(names), max_size=6)):
        if name == "model" and any(member.name == "model" for member in members):
            continue
        if members:
            raw += ("," + draw(space)).encode()
        start = len(raw)
        raw += (key + draw(space) + ":" + draw(space)).encode()
        value = len(raw)
        raw += draw(values).encode()
        members.append(Member(name, start, value, len(raw)))
        raw += draw(space).encode()
    return Text(raw + b"}" + draw(space).encode(), members, after_brace)

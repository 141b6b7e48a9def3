"""The body splice, and what is rendered of a body for each dialect, against Python's own JSON reader.

Laws: no error but `BodyError`; what Python reads as an object with at most one `model`, within the bounds, is not
refused; members lie where they are said to lie; a splice changes the model's value and no other byte; both ways of
reading a body, by length, come to the same.
"""

import json
from typing import Any

from proxy.policy.snapshot import Target
from proxy.upstream.dialect import render
from proxy.wire.body import MAX_DEPTH, MAX_MEMBERS, PARSE_UP_TO, Body, BodyError, Edit
from proxy.words import Dialect
from tests.support.lane import policy_of

TOKENS = (
    b'"model"', b'"mod\\u0065l"', b'"\\u006dodel"', b'"model":"m"', b'"user":"u"', b'"stream":true',
    b'"stream":false', b'"stream_options":{"include_usage":false}', b'"stream_options":null', b'"seed":1',
    b'"random_seed":2', b'"max_tokens":5', b'"max_completion_tokens":7', b'"store":true', b'"top_k":1',
    b'"metadata":{"agent":"a"}', b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b'\\"', b"\\\\", b"\\u0022",
    b"\\ud83d\\ude00", b"\\ud800", b" ", b"\t", b"\r\n", b"\x0b", b"\x00", b"1.50", b"1e400", b"-0",
    b"12345678901234567890", b"null", b"true", b"NaN", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xff", b"[" * 30, b"]" * 30,
    b"/**/", b"'",
)  # fmt: skip

_PADDING = b" " * (PARSE_UP_TO + 1)
_MODEL = b'"spliced"'


def _target(dialect: Dialect) -> Target:
    upstream = {"base_url": "http://127.0.0.1:1", "dialect": dialect.value}
    policy = policy_of("http://127.0.0.1:1", upstreams={"up": upstream}, agents={"qa_agent": {"fallback": "spliced"}})
    return policy.agents[b"qa_agent"].baseline


_TARGETS = [_target(dialect) for dialect in Dialect]
_DEFAULTS = ((b'"temperature"', b"0.5"), (b'"max_tokens"', b"9"))


def check(data: bytes) -> None:
    """`data` is a body."""
    pairs = _read(data)
    _check(data, pairs)
    _check(data + _PADDING, pairs)


def _check(raw: bytes, pairs: "list[tuple[str, Any]] | None") -> None:
    try:
        body = Body(raw)
    except BodyError:
        assert pairs is None or _is_too_much(pairs, raw)
        return
    assert body.spliced([]) == raw
    if body.model is not None:
        start, end = body.model
        spliced = body.spliced([Edit(start, end, _MODEL)])
        assert spliced == raw[:start] + _MODEL + raw[end:]
        if pairs is not None:
            assert _read(spliced) == [(name, "spliced" if name == "model" else value) for name, value in pairs]
    if pairs is None:
        _look_around(body)
        return
    names = [name for name, _ in pairs]
    if any("\ud800" <= char <= "\udfff" for name in names for char in name):
        _look_around(body)  # a key that is no text keeps its bytes, and means nothing
        return
    assert body.names == set(names)
    assert names.count("model") == (body.model is not None)
    assert body.stream == (dict(pairs).get("stream") is True)
    try:
        members = body.members()
    except BodyError:
        assert _is_too_much(pairs, raw)
        return
    assert [(member.name, _value(raw[member.value : member.end])) for member in members] == pairs
    _look_around(body)
    if names.count("stream_options") < 2:  # of two, which one an upstream reads is its own affair
        _check_rendered(body, pairs)


def _look_around(body: Body) -> None:
    """Whatever is asked of a body, the answer is one, or the refusal that was still to come."""
    try:
        for name in [*body.names, "metadata", "user"]:
            assert isinstance(body.text(name), bytes | None)
            assert isinstance(body.nested_text(name, "agent"), bytes | None)
        for target in _TARGETS:
            render(body, target, _DEFAULTS, stream=body.stream)
    except BodyError:
        pass


def _check_rendered(body: Body, pairs: list[tuple[str, Any]]) -> None:
    """What an upstream gets is JSON, has our model once, and says of all else what the client said."""
    sent = dict(pairs)
    for target in _TARGETS:
        new, injected, adapted = render(body, target, _DEFAULTS, stream=body.stream)
        found = _read(new)
        assert found is not None
        names = [name for name, _ in found]
        got = dict(found)
        assert names.count("model") == 1
        assert got["model"] == "spliced"
        untouched = sent.keys() - adapted - {"model", "stream_options"}
        assert all(got[name] == sent[name] for name in untouched)
        assert [name for name in names if name in untouched] == [name for name, _ in pairs if name in untouched]
        if injected:
            assert dict(got["stream_options"])["include_usage"] is True
        assert got.get("temperature") == sent.get("temperature", "0.5")


class _Keys(list[tuple[str, Any]]):
    """An object's members in order: not to be taken for an array."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return type(other) is _Keys and super().__eq__(other)


def _read(raw: bytes) -> "list[tuple[str, Any]] | None":
    """An object's members in order, numbers as they are written; None: Python sees no object."""
    try:
        found = _value(raw)
    except (ValueError, RecursionError):
        return None
    return list(found) if type(found) is _Keys else None


def _value(raw: bytes) -> Any:
    text = raw.decode()
    if text.startswith("\ufeff"):
        raise ValueError("byte order mark")
    return json.loads(text, object_pairs_hook=_Keys, parse_int=str, parse_float=str, parse_constant=_refuse)


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _is_too_much(pairs: list[tuple[str, Any]], raw: bytes) -> bool:
    """Two models, or beyond a bound: reasons to refuse what is JSON."""
    too_deep = _depth(_Keys(pairs)) > MAX_DEPTH + 1
    return [name for name, _ in pairs].count("model") > 1 or len(pairs) > MAX_MEMBERS or too_deep


def _depth(value: Any) -> int:
    if type(value) is _Keys:
        return 1 + max((_depth(child) for _, child in value), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0

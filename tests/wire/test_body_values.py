"""What a body says, and which bodies are refused.  ACCEPTANCE 2 and 35."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.body import MAX_DEPTH, MAX_MEMBERS, Body, BodyError, json_text
from tests.wire.json_texts import both_ways, objects, sized

# A body is read further on demand: whatever was asked before, the answers are the same.
BEFORE: dict[str, Callable[[Body], object]] = {
    "fresh": lambda body: body.raw,
    "got": lambda body: body.get("it"),
    "read": lambda body: body.text("it"),
    "looked into": lambda body: body.nested_text("o", "it"),
    "scanned": lambda body: body.members(),
}


@both_ways
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(
    ("value", "parsed", "text"),
    [
        (b'"alice"', "alice", b"alice"),
        (b'"\\u00fc\\ud83d\\ude0a"', "ü😊", "ü😊".encode()),
        (b'""', "", b""),
        (b"42", 42, b"42"),
        (b"1.50", 1.5, b"1.50"),
        (b"-0", 0, b"-0"),
        (b"true", True, None),
        (b"false", False, None),
        (b"null", None, None),
        (b'["a"]', ["a"], None),
        (b'{"a":1}', {"a": 1}, None),
    ],
)
def test_value_and_text_of_a_member(long: bool, before: str, value: bytes, parsed: object, text: bytes | None) -> None:
    raw = b'{"model":"m","it":"early","it": ' + value + b', "o": {"it": 0, "it":' + value + b"}}"
    body = Body(sized(raw, long))
    BEFORE[before](body)
    assert body.get("it") == parsed
    assert type(body.get("it")) is type(parsed)
    assert body.text("it") == text
    assert body.nested_text("o", "it") == text


@both_ways
@pytest.mark.parametrize("before", BEFORE)
def test_absent_member_has_no_value_and_no_text(long: bool, before: str) -> None:
    body = Body(sized(b'{"model": "m", "it": 42, "o": {}}', long))
    BEFORE[before](body)
    assert body.get("absent") is None
    assert body.text("absent") is None
    assert body.nested_text("absent", "it") is None
    assert body.nested_text("o", "it") is None
    assert body.nested_text("model", "it") is None


@both_ways
@pytest.mark.parametrize("before", ["", '"messages": 1, '])
def test_messages_have_their_value_though_nobody_keeps_it(long: bool, before: str) -> None:
    body = Body(sized(f'{{{before}"messages": [{{"role": "user"}}], "model": "m"}}'.encode(), long))
    for _ in range(2):
        assert body.get("messages") == [{"role": "user"}]
    assert body.text("messages") is None
    assert body.nested_text("messages", "role") is None
    assert "messages" in body.names


@both_ways
@pytest.mark.parametrize("key", ["model", "it", "user"])
def test_duplicates_inside_a_nested_object_are_the_upstreams_to_judge(long: bool, key: str) -> None:
    raw = f'{{"o": {{"{key}": 1, "{key}": 2, "it": 42}}}}'.encode()
    assert Body(sized(raw, long)).nested_text("o", "it") == b"42"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"a"', b"a"),
        (b'"\\u0041"', b"A"),
        (b"-1", b"-1"),
        (b"0", b"0"),
        (b"null", None),
        (b"[1]", None),
        (b"", None),
    ],
)
def test_text_of_raw_json(raw: bytes, text: bytes | None) -> None:
    assert json_text(raw) == text


# --- what is refused --------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"null", b"[]", b'"x"', b"42", b"[{}]", b"{", b"}", b'{"a"', b'{"a":', b'{"a":1',
        b'{"a":1,', b'{"a":1,}', b'{,"a":1}', b"{a:1}", b"{'a':1}", b'{"a":1 "b":2}', b'{"a":1}{',
        b'{"a":1},', b"{}x", b'{"a":[1}', b'{"a":"x}', b'{"a":"x\\"}', b"\xef\xbb\xbf{}", b"\x00{}",
        b"model=x&messages=y",
    ],
)  # fmt: skip
def test_what_is_no_object_is_refused(long: bool, raw: bytes) -> None:
    with pytest.raises(BodyError):
        Body(sized(raw, long))


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return b'{"model":"m","a":' + opening * depth + b"0" + closing * depth + b"}"


nestings = pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'["]",', b"]")])


@both_ways
@nestings
def test_depth_up_to_the_limit_is_accepted(long: bool, opening: bytes, closing: bytes) -> None:
    body = Body(sized(nested(opening, closing, MAX_DEPTH), long))
    assert body.text("model") == b"m"
    assert [member.name for member in body.members()] == ["model", "a"]


@both_ways
@nestings
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_depth_over_the_limit_is_refused(long: bool, opening: bytes, closing: bytes, depth: int) -> None:
    raw = sized(nested(opening, closing, depth), long)
    if not long and depth == MAX_DEPTH + 1:
        assert Body(raw).model is not None  # a short body is parsed, and the parser goes deeper
        return
    with pytest.raises(BodyError, match=f"deeper than {MAX_DEPTH} levels"):
        Body(raw)


@both_ways
def test_breadth_is_no_depth(long: bool) -> None:
    raw = b'{"model":"m","a":[' + b"[[]]," * 1000 + b"{}]}"
    assert len(Body(sized(raw, long)).members()) == 2


def test_members_up_to_the_limit_are_accepted_and_more_refused() -> None:
    members = [b'"%d":0' % number for number in range(MAX_MEMBERS + 1)]
    raw = b"{" + b",".join(members[:-1]) + b"}"
    assert len(Body(sized(raw, long=True)).members()) == MAX_MEMBERS
    with pytest.raises(BodyError, match=f"more than {MAX_MEMBERS} members"):
        Body(sized(b"{" + b",".join(members) + b"}", long=True))


# --- hostile bytes ----------------------------------------------------------------------------------


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """An object with a piece cut out and some bytes put in its place."""
    raw = draw(objects()).raw
    start, end = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
    traps = st.sampled_from([b'"', b"\\", b"{", b"]", b"\\ud800", b"\xff", b"\0"])
    return raw[:start] + draw(st.one_of(traps, st.binary(max_size=3))) + raw[end:]


def is_sound(raw: bytes) -> bool:
    """Whether Python's own reader sees an object with at most one `model`."""
    try:
        pairs = json.loads(raw, object_pairs_hook=list)
    except ValueError:
        return False
    return raw.strip()[:1] == b"{" and [name for name, _ in pairs].count("model") < 2


@both_ways
@given(raw=st.one_of(st.binary(), broken()))
def test_any_bytes_are_split_or_refused(long: bool, raw: bytes) -> None:
    try:
        body = Body(sized(raw, long))
        members = body.members()
    except BodyError:
        assert not is_sound(raw)
        return
    assert body.spliced([]) == sized(raw, long)
    assert {member.name for member in members} == body.names
    for name in [*body.names, "user", "metadata", "stream"]:
        assert isinstance(body.text(name), bytes | None)
        assert isinstance(body.nested_text(name, "user_id"), bytes | None)


@given(st.binary(min_size=8))
def test_refusal_quotes_nothing_of_the_body(secret: bytes) -> None:
    with pytest.raises(BodyError) as caught:
        Body(b"{" + secret.hex().encode() + b"}")
    assert secret.hex() not in str(caught.value)

"""The splice, against objects whose members are known from how they were built.

ACCEPTANCE 1 (every byte outside an edit survives) and 2 (two `model` keys).
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.body import LONG_STRING, Body, BodyError, Edit, inside
from tests.wire.json_texts import MODEL_KEYS, Text, both_ways, names, objects, sized


def pairs(raw: bytes) -> list[tuple[str, Any]]:
    """The members as Python's own JSON reader sees them, duplicates included."""
    found: list[tuple[str, Any]] = json.loads(raw, object_pairs_hook=list)
    return found


# --- members ----------------------------------------------------------------------------------------


@both_ways
@given(text=objects())
def test_members_are_found_where_they_lie(long: bool, text: Text) -> None:
    body = Body(sized(text.raw, long))
    assert body.members() == text.members
    assert body.names == text.names
    assert body.after_brace == text.after_brace


@both_ways
@given(text=objects(st.sampled_from(["model", "model", "user", "seed"])))
def test_only_the_bytes_of_the_models_value_change(long: bool, text: Text) -> None:
    raw = sized(text.raw, long)
    body = Body(raw)
    found = [member for member in text.members if member.name == "model"]
    assert body.model == (found[0][2:] if found else None)
    if body.model is not None:
        start, end = body.model
        assert body.spliced([Edit(start, end, b'"new"')]) == raw[:start] + b'"new"' + raw[end:]


@both_ways
@given(text=objects(), dropped=st.frozensets(names))
def test_deleted_members_take_one_comma_each_with_them(long: bool, text: Text, dropped: frozenset[str]) -> None:
    body = Body(sized(text.raw, long))
    result = body.spliced(body.without(dropped))
    assert repr(pairs(result)) == repr([pair for pair in pairs(text.raw) if pair[0] not in dropped])
    position = 0
    for member in text.members:
        if member.name not in dropped:
            position = result.index(text.raw[member.start : member.end], position)


@pytest.mark.parametrize("dropped", ["a", "b", "c", "ab", "ac", "bc", "abc"])
@pytest.mark.parametrize("order", ["abc", "aab", "abb", "aba", "bab", "cab"])
@pytest.mark.parametrize("separator", [",", " , ", "\n,\t"])
def test_deletion_in_every_position(dropped: str, order: str, separator: str) -> None:
    raw = ("{ " + separator.join(f'"{name}" : {at}' for at, name in enumerate(order)) + " }").encode()
    body = Body(raw)
    result = body.spliced(body.without(set(dropped)))
    assert pairs(result) == [(name, at) for at, name in enumerate(order) if name not in dropped]


def test_deletion_and_replacement_together() -> None:
    body = Body(b'{"user":"u", "model" : "old" ,"seed":1}')
    assert body.model is not None
    edits = [*body.without({"user", "seed"}), Edit(*body.model, b'"new"')]
    assert body.spliced(edits) == b'{"model" : "new"}'


@both_ways
def test_long_names_and_strings_are_whole_and_in_their_places(long: bool) -> None:
    name, text = "n" * 2 * LONG_STRING, 't\\"' + "t" * LONG_STRING
    raw = sized(json.dumps({name: 1, "user": text, "model": text, "": text, name + "!": [text, text]}).encode(), long)
    body = Body(raw)
    assert [(member.name, json.loads(raw[member.value : member.end])) for member in body.members()] == pairs(raw)
    assert body.get("user") == body.get("") == text
    assert body.model is not None
    assert json.loads(raw[slice(*body.model)]) == text


@pytest.mark.parametrize("ending", ["", "\\", '\\"', '"', '"}"', '"}' + '"' * 2000])
def test_a_long_string_and_nothing_sound_behind_it_is_refused(ending: str) -> None:
    with pytest.raises(BodyError):
        Body(sized(b'{"a": "' + b"x" * LONG_STRING * 2 + ending.encode(), long=True))


@both_ways
@given(text=objects())
def test_without_edits_the_body_is_what_it_was(long: bool, text: Text) -> None:
    assert Body(sized(text.raw, long)).spliced([]) == sized(text.raw, long)


@given(objects())
def test_member_is_set_inside_an_object_and_all_other_bytes_stay(text: Text) -> None:
    found = inside(text.raw, "user", b"[7]")
    there = [member for member in text.members if member.name == "user"]
    if there:
        assert found == text.raw[: there[-1].value] + b"[7]" + text.raw[there[-1].end :]
    else:
        start = text.after_brace
        comma = b"," if text.members else b""
        assert found == text.raw[:start] + b'"user":[7]' + comma + text.raw[start:]
    assert json.loads(found)["user"] == [7]


# --- the key `model` --------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("key", MODEL_KEYS)
def test_model_is_found_however_its_key_is_written(long: bool, key: bytes) -> None:
    raw = sized(b'{"x": "\\"model\\"", ' + key + b' :\t"old", "y": {"model": "inner"}}', long)
    body = Body(raw)
    assert body.model is not None
    assert body.text("model") == b"old"
    assert body.spliced([Edit(*body.model, b"0")]) == raw.replace(b'"old"', b"0")


@both_ways
@pytest.mark.parametrize("first", MODEL_KEYS)
@pytest.mark.parametrize("second", MODEL_KEYS)
def test_two_models_are_refused_however_they_are_written(long: bool, first: bytes, second: bytes) -> None:
    with pytest.raises(BodyError, match="more than one `model`"):
        Body(sized(b"{" + first + b': "a", "user": "u", ' + second + b': "b"}', long))


@both_ways
@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"Model": "m"}',
        b'{"model ": "m"}',
        b'{"x": "model"}',
        b'{"x": {"model": "m"}}',
        b'{"x": [{"model": "m"}, "model"]}',
        b'{"x": "\\"model\\":\\"m\\""}',
        b'{"\\"model\\"": "m"}',
        b'{"model\\u0000": "m"}',
    ],
)
def test_what_only_looks_like_a_model_is_none(long: bool, raw: bytes) -> None:
    assert Body(sized(raw, long)).model is None


@both_ways
@pytest.mark.parametrize("value", [b"null", b"42", b"[]", b'{"model": "m"}', b'""', b'"a\\"b"', b'"\\\\"', b"1e400"])
def test_model_may_be_any_value(long: bool, value: bytes) -> None:
    body = Body(sized(b'{"a": 1, "model": ' + value + b', "b": 2}', long))
    assert body.model is not None
    assert body.spliced([Edit(*body.model, b'"m"')]) == sized(b'{"a": 1, "model": "m", "b": 2}', long)

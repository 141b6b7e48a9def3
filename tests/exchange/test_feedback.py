"""What a feedback's body may be, and what is kept of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.call import Refusal
from proxy.exchange.feedback import MAX_COMMENT, read_feedback

NOW = 1_700_000_000.0
RATED: dict[str, Any] = {"request_id": "0190", "value": True}


def body(**changes: Any) -> bytes:
    """A sound body; `changes` replace or add members."""
    return json.dumps({**RATED, **changes}).encode()


def refusal(raw: bytes) -> str:
    """The message that a body is refused with, its answer's status and code checked."""
    with pytest.raises(Refusal) as refused:
        read_feedback(raw, NOW)
    assert (refused.value.answer.status, refused.value.answer.code) == (400, "bad_request")
    return refused.value.answer.message


@pytest.mark.parametrize(
    ("value", "score"), [(True, 1.0), (False, 0.0), (0, 0.0), (1, 1.0), (0.25, 0.25), (1e-300, 1e-300)]
)
def test_verdict_and_number_are_scores(value: object, score: float) -> None:
    feedback = read_feedback(body(value=value), NOW)
    assert feedback == ("request:0190", "0190", "", score, "", NOW)
    assert type(feedback.score) is float


@pytest.mark.parametrize(
    "value", ["true", "0.5", "NaN", "Infinity", "-Infinity", "1.0001", "-0.1", "2", "1e999", "null", "[]", "{}"]
)
def test_any_other_value_is_refused(value: str) -> None:
    raw = b'{"request_id":"0190","value":%b}' % (f'"{value}"' if value in ("true", "0.5") else value).encode()
    assert refusal(raw) == "expected value as true, false, or a number from 0 to 1"


def test_missing_value_is_refused() -> None:
    assert "value" in refusal(b'{"request_id":"0190"}')


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"\xef\xbb\xbf{}", b"[" * 60_000, b'{"value":' * 5_000]
)
def test_no_json_object_is_refused(raw: bytes) -> None:
    assert refusal(raw) == "expected a JSON object with request_id or response_id, and value"


@pytest.mark.parametrize("ids", [{}, {"request_id": "a", "response_id": "b"}, {"request_id": None}])
def test_neither_and_both_ids_are_refused(ids: dict[str, Any]) -> None:
    raw = json.dumps({"value": True, **ids}).encode()
    assert refusal(raw) == "expected one of request_id and response_id"


@pytest.mark.parametrize("name", ["id", "request_id", "response_id"])
@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "ü", "a" * 129, 5, True, [], "\ud800", "a\0"])
def test_id_that_is_none_is_refused(name: str, value: object) -> None:
    others = {} if name != "response_id" else {"request_id": None}
    assert refusal(body(**{name: value}, **others)) == (
        f"expected {name} as a string of 1 to 128 visible ASCII characters"
    )


def test_longest_id_is_kept() -> None:
    assert read_feedback(body(id="~" * 128), NOW).id == "~" * 128


def test_id_is_derived_from_what_is_rated() -> None:
    first = read_feedback(body(value=False, comment="late"), NOW + 9)
    assert first.id == read_feedback(body(id=None), NOW).id
    ids = {first.id}
    ids.add(read_feedback(body(request_id="0191"), NOW).id)
    ids.add(read_feedback(body(request_id=None, response_id="0190"), NOW).id)
    assert len(ids) == 3


def test_what_a_client_says_of_variant_agent_and_user_changes_nothing() -> None:
    claims = {"variant": "finetuned", "agent": "qa_agent", "user": "u", "assignment": "baseline", "score": 0}
    assert read_feedback(body(**claims), NOW) == read_feedback(body(), NOW)


def test_comment_that_is_no_text_is_refused() -> None:
    assert refusal(body(comment=["x"])) == "expected comment as a string"


def test_comment_cut_in_the_middle_of_an_emoji_is_kept() -> None:
    assert read_feedback(body(comment="so good \ud83d"), NOW).comment == "so good"


@given(st.text(st.characters(exclude_categories=())))
def test_comment_is_short_clean_and_otherwise_as_it_came(text: str) -> None:
    comment = read_feedback(body(comment=text), NOW).comment
    comment.encode()
    assert len(comment) <= MAX_COMMENT
    assert not any(letter < " " or "\x7f" <= letter < "\xa0" for letter in comment)
    if text.isprintable() and len(text) <= MAX_COMMENT:
        assert comment == text.strip()

"""Token counts as the vendors report them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.usage import read_usage
from proxy.words import Usage

OPENAI = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "accepted_prediction_tokens": 0},
}
MISTRAL = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (OPENAI, Usage(19, 10, cached=8, reasoning=4)),
        (MISTRAL, Usage(19, 10)),
        ({**OPENAI, "prompt_tokens_details": None, "completion_tokens_details": None}, Usage(19, 10)),
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0)),  # embeddings
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(5, 0)),
        ({"prompt_tokens": -5, "completion_tokens": 3}, Usage(0, 3)),
        ({"prompt_tokens": 2**31 - 1, "completion_tokens": 2**31}, Usage(2**31 - 1, 0)),  # no model says so much
        ({"prompt_tokens": "5", "completion_tokens": 3}, Usage(0, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": [8]}, Usage(5, 3)),
    ],
)
def test_usage_of_an_answer(usage: object, expected: Usage) -> None:
    assert read_usage({"id": "x", "usage": usage}) == expected


@pytest.mark.parametrize(
    "answer", [None, "usage", [], 1, {}, {"usage": None}, {"usage": []}, {"usage": "29"}, {"choices": []}]
)
def test_answer_without_usage_has_none(answer: object) -> None:
    assert read_usage(answer) is None


def test_reported_usage_is_not_estimated() -> None:
    usage = read_usage({"usage": MISTRAL})
    assert usage is not None
    assert not usage.estimated


counts = st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))
details = st.one_of(counts, st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), counts))


@given(st.dictionaries(st.sampled_from(sorted(OPENAI)), details))
def test_counts_are_whole_and_never_negative(usage: dict[str, object]) -> None:
    found = read_usage(json.loads(json.dumps({"usage": usage})))
    assert found is not None
    assert all(
        isinstance(count, int) and count >= 0
        for count in (found.prompt, found.completion, found.cached, found.reasoning)
    )

import pytest

from proxy.policy.problems import (
    Expanded,
    Path,
    PolicyError,
    PolicyProblem,
    is_secret,
    show_path,
    show_unknown_path,
    show_value,
)


def test_problem_is_one_line_with_place_key_value_and_expectation() -> None:
    problem = PolicyProblem("policies/x.yaml", 12, 5, "agents.qa_agent.max_tokens", '"abc"', "a whole number > 0")
    line = 'policies/x.yaml:12:5: agents.qa_agent.max_tokens: got "abc", expected a whole number > 0'
    assert str(problem) == line


def test_problem_of_a_whole_file_has_neither_line_nor_key() -> None:
    assert str(PolicyProblem("x.yaml", 0, 0, "", "more", "less")) == "x.yaml: got more, expected less"


def test_problem_stays_one_line_whatever_its_key_holds() -> None:
    problem = PolicyProblem("x.yaml", 1, 1, "a\nb\x1b[31m\u2028\ud800", "1", "2")
    assert str(problem) == "x.yaml:1:1: a?b?[31m??: got 1, expected 2"


def test_error_lists_its_problems_one_a_line() -> None:
    one = PolicyProblem("x.yaml", 1, 1, "a", "1", "2")
    assert str(PolicyError((one, one))) == f"{one}\n{one}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("abc", '"abc"'),
        (7, "7"),
        (True, "true"),
        (None, "nothing"),
        ({"a": "sk-live"}, "a mapping"),
        (["sk-live"], "a list"),
        ("a\nb\x00é", '"a\\nb\\u0000\\u00e9"'),
        ("https://u:p@host", "***"),
        (Expanded("from the environment"), "***"),
    ],
)
def test_values_are_shown_quoted_and_secrets_hidden(value: object, shown: str) -> None:
    assert show_value(value, ("a",)) == shown


def test_long_values_are_cut() -> None:
    assert len(show_value("x" * 10_000, ("a",))) < 70


@pytest.mark.parametrize(
    "path", [("upstreams", "m", "api_key"), ("alerting", "slack_webhook"), ("store", "url"), ("x", "api_key")]
)
def test_values_of_secret_keys_are_hidden(path: Path) -> None:
    assert is_secret(path)
    assert show_value("sk-live", path) == "***"
    assert show_value(12345678, path) == "***"


def test_path_is_dotted_with_bracketed_indices() -> None:
    assert show_path(("rollout", "steps", 1, "min", "users")) == "rollout.steps[1].min.users"
    assert show_path(()) == ""


def test_keys_made_from_tokens_are_hidden_in_paths() -> None:
    assert show_path(("identity", "keys", "sk-live")) == "identity.keys.***"


@pytest.mark.parametrize(
    ("key", "shown"), [("api_kye", "a.api_kye"), ("api_key:sk-live", "a.api_key…"), ("sk live", "a.sk…")]
)
def test_unknown_key_is_shown_as_far_as_it_looks_like_a_key(key: str, shown: str) -> None:
    assert show_unknown_path(("a", key)) == shown

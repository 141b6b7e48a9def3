from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.policy.document import read_document
from proxy.policy.expand import MAX_FILE, expand_document
from proxy.policy.files import PolicyFiles
from proxy.policy.problems import Expanded, PolicyProblem


def expand(
    text: str, env: Mapping[str, str] | None = None, source: str = "x.yaml"
) -> tuple[object, list[PolicyProblem]]:
    root, _ = read_document(text.encode(), source)
    problems = expand_document(root, env or {}, PolicyFiles())
    return root.plain(), problems


def test_variable_is_replaced_by_its_value() -> None:
    assert expand("a: ${X}\n", {"X": "1"}) == ({"a": "1"}, [])


def test_variables_are_replaced_inside_text_and_lists() -> None:
    values, problems = expand('a: ["x-${A}-${B:-b}-y"]\n', {"A": "a"})
    assert (values, problems) == ({"a": ["x-a-b-y"]}, [])


def test_value_cannot_add_structure_or_further_references() -> None:
    hostile = "x}\nb: 1 # ${Y} !!python/object"
    assert expand("a: ${X}\n", {"X": hostile, "Y": "no"}) == ({"a": hostile}, [])


@pytest.mark.parametrize("env", [{}, {"X": ""}])
def test_default_stands_in_for_unset_and_empty(env: Mapping[str, str]) -> None:
    assert expand('a: "${X:-http://h:1}"\n', env)[0] == {"a": "http://h:1"}


def test_set_variable_wins_over_the_default() -> None:
    assert expand('a: "${X:-d}"\n', {"X": "v"})[0] == {"a": "v"}


def test_key_that_expands_to_nothing_is_left_out() -> None:
    assert expand("a: ${X:-}\nb: \"\"\nc: ['${X:-}']\n") == ({"b": "", "c": [""]}, [])


@pytest.mark.parametrize("env", [{}, {"X": ""}])
def test_unset_or_empty_variable_without_default_names_key_and_variable(env: Mapping[str, str]) -> None:
    _, problems = expand("a:\n  b: sk-${X}\n", env)
    assert [str(problem) for problem in problems] == [
        "x.yaml:2:3: a.b: got ${X}, expected the environment variable X to be set and not empty"
    ]


@pytest.mark.parametrize("text", ["${", "${}", "${1X}", "${X-d}", "${X:d}", "${A:-${B}}", "${X", "a${ X }"])
def test_other_forms_are_refused_without_repeating_them(text: str) -> None:
    _, problems = expand(f"a: '{text}'\n", {"X": "x", "A": "a", "B": "b"})
    assert [problem.value for problem in problems] == ["another form of ${…}"]


def test_doubled_dollar_is_the_reference_itself() -> None:
    assert expand("a: '$${X} costs $5'\n") == ({"a": "${X} costs $5"}, [])


def test_keys_numbers_and_comments_are_not_expanded() -> None:
    assert expand("'${X}': 1 # ${Y}\n") == ({"${X}": 1}, [])


def test_expanded_text_is_marked_as_possibly_secret() -> None:
    root, _ = read_document(b"a: ${X}\nb: plain\n", "x.yaml")
    expand_document(root, {"X": "1"}, PolicyFiles())
    assert isinstance(root.find(("a",))[0].value, Expanded)
    assert not isinstance(root.find(("b",))[0].value, Expanded)


def test_aliased_text_is_expanded_once() -> None:
    values, problems = expand("a: &x {k: '${X}'}\nb: *x\n", {"X": "${X}"})
    assert (values, problems) == ({"a": {"k": "${X}"}, "b": {"k": "${X}"}}, [])


def test_every_unresolved_reference_is_reported() -> None:
    _, problems = expand("a: ${A}\nb: [x, '${B}']\n")
    assert [(problem.line, problem.key) for problem in problems] == [(1, "a"), (2, "b[1]")]


def test_file_is_read_without_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    source = str(tmp_path / "x.yaml")
    assert expand("a: ${file:key}\n", source=source) == ({"a": "sk-file"}, [])
    assert expand(f"a: ${{file:{tmp_path}/key}}\n", source="elsewhere/x.yaml") == ({"a": "sk-file"}, [])


def test_missing_file_is_reported_with_the_reason(tmp_path: Path) -> None:
    _, problems = expand("a: ${file:none}\n", source=str(tmp_path / "x.yaml"))
    assert problems[0].value == "${file:none}"
    assert problems[0].expected == "a readable file (No such file or directory)"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (MAX_FILE + 1)])
def test_unusable_file_is_reported_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    _, problems = expand("a: ${file:key}\n", source=str(tmp_path / "x.yaml"))
    assert len(problems) == 1
    assert len(str(problems[0])) < 300

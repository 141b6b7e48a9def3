import time

import pytest
import yaml

from proxy.policy import document
from proxy.policy.document import MAX_BYTES, MAX_NODES, Node, read_document, resolve
from proxy.policy.problems import PolicyError, PolicyProblem


@pytest.fixture(autouse=True, params=["libyaml", "python"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(document, "_Loader", yaml.SafeLoader)


def read(text: str | bytes) -> Node:
    root, problems = read_document(text.encode() if isinstance(text, str) else text, "x.yaml")
    assert not problems
    return root


def refused(text: str | bytes) -> PolicyProblem:
    with pytest.raises(PolicyError) as caught:
        read_document(text.encode() if isinstance(text, str) else text, "x.yaml")
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_keys_are_text_as_written() -> None:
    root = read("on: 1\nno: 2\n429: 3\n5xx: 4\ntrue: 5\n~: 6\n1.0: 7\n")
    assert root.plain() == {"on": 1, "no": 2, "429": 3, "5xx": 4, "true": 5, "~": 6, "1.0": 7}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("012", 12),
        ("0.7", 0.7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("2031-01-01", "2031-01-01"),
        ("9" * 5000, "9" * 5000),
        ("1e999", "1e999"),
    ],
)
def test_plain_values_follow_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_quoted_values_are_text() -> None:
    assert read('["true", \'7\', ""]').plain() == ["true", "7", ""]


def test_places_are_those_of_keys_and_items() -> None:
    root = read("a:\n  b:\n    - x\n    - {c: 1}\n")
    for path, place in [
        (("a",), (1, 1)),
        (("a", "b"), (2, 3)),
        (("a", "b", 0), (3, 7)),
        (("a", "b", 1), (4, 7)),
        (("a", "b", 1, "c"), (4, 8)),
    ]:
        node, found = root.find(path)
        assert ((node.line, node.column), found) == (place, path)


def test_finding_what_is_not_there_ends_at_the_last_node_on_the_way() -> None:
    root = read("a:\n  - b: 1\n")
    for path, depth in [(("a", 7), 1), (("a", 0, "x"), 2), (("a", 0, "b", "deeper"), 3), ((0,), 0)]:
        assert root.find(path)[1] == path[:depth]


def test_alias_stands_where_it_is_written() -> None:
    root = read("a: &t {x: 1}\nb: *t\n")
    assert root.plain() == {"a": {"x": 1}, "b": {"x": 1}}
    assert root.find(("b",))[0].line == 2


def test_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n").plain() == {"a": 1}


def test_duplicate_keys_are_all_reported_with_the_line_of_the_first() -> None:
    _, problems = read_document(b"a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "x.yaml")
    assert [str(problem) for problem in problems] == [
        "x.yaml:4:3: b.c: got the same key again, expected it once (first in line 3)",
        "x.yaml:5:1: a: got the same key again, expected it once (first in line 1)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']\n",
        "a: !!python/object:builtins.object {}\n",
        "a: !secret sk-live\n",
        "a: !!str 5\n",
        "a: ! 5\n",
    ],
)
def test_tags_are_refused_without_repeating_them(text: str) -> None:
    _, problems = read_document(text.encode(), "x.yaml")
    assert [str(problem) for problem in problems] == [
        "x.yaml:1:4: a: got a tag, expected a value without one (tags are not allowed)"
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", (3, 2)),
        ("a: 1\n\tb: 2\n", (2, 1)),
        ('a: "unfinished\n', (2, 1)),
        ("a: b: c\n", (1, 5)),
        ("a: @b\n", (1, 4)),
    ],
)
def test_syntax_error_is_one_problem_with_its_place(text: str, place: tuple[int, int]) -> None:
    problem = refused(text)
    assert problem.value == "a syntax error"
    assert (problem.line, problem.column) == place


@pytest.mark.parametrize("text", ["a: *sk-live-secret\n", "a: &sk-live-secret *sk-live-secret\n", "a: !sk!live 1\n"])
def test_syntax_error_never_repeats_a_piece_of_the_file(text: str) -> None:
    assert "live" not in str(refused(text))
    assert "sk" not in str(refused(text)).removeprefix("x.yaml")


def test_alias_inside_its_own_anchor_is_refused() -> None:
    assert refused("a: &x [*x]\n").value == "an alias of nothing"


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_empty_file_is_refused(text: str) -> None:
    assert refused(text).value == "nothing"


def test_empty_document_is_a_null() -> None:
    assert read("---\n...\n").plain() is None


def test_second_document_is_refused() -> None:
    assert refused("a: 1\n---\nb: 2\n").expected == "one document"


def test_compound_key_is_refused() -> None:
    assert refused("? [a, b]\n: 1\n").value == "a compound key"


def test_other_bytes_than_utf_8_are_refused_where_they_are() -> None:
    problem = refused(b"a: 1\nb: caf\xe9\n")
    assert (problem.line, problem.column, problem.expected) == (2, 7, "UTF-8 text")


@pytest.mark.parametrize("character", ["\0", "\x07", "\x1b", "\x7f", "￿"])
def test_control_character_is_refused_where_it_is(character: str) -> None:
    problem = refused(f"a: 1\nb: x{character}\n")
    assert (problem.line, problem.column, problem.expected) == (2, 5, "printable text")
    assert character not in str(problem)


def test_file_over_one_mebibyte_is_refused_before_it_is_read() -> None:
    assert refused(b"#" * (MAX_BYTES + 1)).expected == "at most 1 MiB"
    started = time.perf_counter()
    assert refused(b"a: [" + b"1," * 5_000_000 + b"]").expected == "at most 1 MiB"
    assert time.perf_counter() - started < 1


def test_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    started = time.perf_counter()
    assert refused("\n".join(lines)).expected == f"at most {MAX_NODES} values, aliases counted in full"
    assert time.perf_counter() - started < 2


def test_more_values_than_a_policy_has_are_refused() -> None:
    assert str(MAX_NODES) in refused("[" + "1," * (MAX_NODES + 1) + "]").expected


@pytest.mark.parametrize("text", ["[" * 400_000, "{a: " * 200_000, "- " * 300_000, "? " * 300_000])
def test_deep_nesting_is_refused_and_not_followed(text: str) -> None:
    problem = refused(text)
    assert problem.expected == "at most 32 levels" or problem.value in ("a compound key", "a syntax error")


def test_deep_nesting_through_aliases_is_refused() -> None:
    lines = ["a0: &a0 " + "[" * 25 + "]" * 25]
    lines += [f"a{i}: &a{i} {'[' * 25}*a{i - 1}{']' * 25}" for i in range(1, 30)]
    assert refused("\n".join(lines)).expected == "at most 32 levels"

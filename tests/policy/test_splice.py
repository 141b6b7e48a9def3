"""Only the value's own characters change."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.document import read_document
from proxy.policy.problems import PolicyError
from proxy.policy.splice import KeyPath, Value, set_values
from tests.support.served import ROOT

ODD = """\
# top
"k": ["p",   q]

agents:
    a.b: {fine_tuned: old, fallback: base}   # trailing
    other:
        fine_tuned: "ft:x"      # aligned
        single: 'it''s'
        list:
        - 1
        - {b:   2,c: 3}
    # below
nothing:
flow: {}

# the end
"""


def edited(text: str, path: KeyPath, value: Value) -> str:
    return set_values(text.encode(), "f", {path: value}).decode()


def plain(content: bytes) -> Any:
    root, problems = read_document(content, "f")
    assert not problems
    return root.plain()


@pytest.mark.parametrize(
    ("path", "value", "old", "new"),
    [
        (("agents", "other", "fine_tuned"), "ft:y", '"ft:x" ', '"ft:y" '),
        (("agents", "other", "single"), "he's", "'it''s'", "'he''s'"),
        (("agents", "a.b", "fine_tuned"), "a,b", "fine_tuned: old", 'fine_tuned: "a,b"'),
        (("agents", "a.b", "more"), 3, "base}", "base, more: 3}"),
        (("agents", "other", "salt"), "s", "c: 3}\n", "c: 3}\n        salt: s\n"),
        (("agents", "n"), {"a": "f", "b": "12"}, "c: 3}\n", 'c: 3}\n    n:\n        a: f\n        b: "12"\n'),
        (("nothing",), True, "nothing:\n", "nothing: true\n"),
        (("nothing", "a", "b"), "x", "nothing:\n", "nothing:\n    a:\n        b: x\n"),
        (("flow", "a"), None, "flow: {}", "flow: {a: null}"),
        (("last", "percent"), 12.5, "flow: {}\n", "flow: {}\nlast:\n    percent: 12.5\n"),
    ],
)  # fmt: skip
def test_everything_else_is_byte_identical(path: KeyPath, value: Value, old: str, new: str) -> None:
    assert ODD.count(old) == 1
    assert edited(ODD, path, value) == ODD.replace(old, new)
    windows = ODD.replace("\n", "\r\n")
    assert edited(windows, path, value) == windows.replace(old.replace("\n", "\r\n"), new.replace("\n", "\r\n"))
    assert edited(f"\ufeff{ODD}", path, value) == f"\ufeff{ODD.replace(old, new)}"


def test_file_without_a_last_line_break_gets_one_before_the_new_key() -> None:
    assert edited("a: 1 # c", ("b",), 2) == "a: 1 # c\nb: 2\n"


def test_value_after_a_block_scalar_stands_below_it() -> None:
    assert plain(edited("a: |\n  text\n\n# c\n", ("b",), 2).encode()) == {"a": "text\n", "b": 2}


@pytest.mark.parametrize("path", [("a",), ("b",), ("m", "x"), ("list",), ("n", "x", "y")])
def test_value_that_cannot_be_set_alone_is_refused(path: KeyPath) -> None:
    text = "a: &x q\nb: *x\nc: &m {x: 1}\nm: *m\nlist: [1]\nn: {x: 1}\n"
    with pytest.raises(PolicyError) as raised:
        edited(text, path, "z")
    assert len(raised.value.problems) == 1


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp")), min_size=1, max_size=12
)
TRICKY = st.sampled_from(["yes", "1e3", "null", "- a", "a: b", "a #b", "?"])
VALUES = st.one_of(st.booleans(), st.none(), st.integers(-(10**9), 10**9), TEXTS, TRICKY)
SHARED = (ROOT / "policies" / "_shared.yaml").read_bytes()
AGENTS = ["qa_agent", "legal_agent", "new", "other"]


PATHS = st.tuples(st.just("agents"), st.sampled_from(AGENTS), st.sampled_from(["fine_tuned", "x"]))


@settings(deadline=None)
@given(st.dictionaries(PATHS, VALUES, min_size=1))
def test_whatever_is_set_is_read_again_and_no_other_line_changes(values: dict[KeyPath, Any]) -> None:
    result = set_values(SHARED, "f", values)
    agents = plain(result)["agents"]
    for (_, agent, key), value in values.items():
        assert agents[agent][key] == value
    assert set(SHARED.splitlines()) - set(result.splitlines()) <= {
        line for line in SHARED.splitlines() if b"fine_tuned" in line
    }

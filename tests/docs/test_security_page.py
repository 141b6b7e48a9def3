"""The threat model's claims have their tests, and its ports, variables and defaults are the program's."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from proxy.admin.guard import FILE_VARIABLE, SHORT, TOKEN_VARIABLE
from proxy.policy.snapshot import ADMIN_ADDRESS, DATA_ADDRESS
from tests.docs.pages import ROOT, rows, section, spans, text_of

PAGE = "docs/security.md"
CLAIMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of(PAGE))))
TABLES = (
    "Who reaches the data listener",
    "An upstream that turns bad",
    "Who writes the policy",
    "Another process, or a browser, on the same host",
    "Who reads logs, metrics, traces, notices or the store",
)


@cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_a_claim_names_exists() -> None:
    assert len(CLAIMED) > 40
    missing = [f"{file}::{name}" for file, name in CLAIMED if name not in names_in(ROOT / file)]
    assert missing == []


@pytest.mark.parametrize("title", TABLES)
def test_whatever_is_stopped_is_shown_by_a_test(title: str) -> None:
    found = rows(section(PAGE, title), "can ")
    assert len(found) >= 4
    for question, answer, shown in found:
        honest = answer.startswith("nothing")
        assert ("::test_" in shown) or (honest and shown == "–"), question


def test_every_test_is_named_in_a_form_that_is_looked_at() -> None:
    named = [span for span in spans(PAGE) if "test_" in span and "::" in span]
    assert all(re.fullmatch(r"tests/[\w/]+\.py::test_\w+", span) for span in named)
    assert {tuple(span.split("::")) for span in named} == set(CLAIMED)


def test_ports_variables_and_limits_are_the_programs() -> None:
    text = text_of(PAGE)
    assert f"`{DATA_ADDRESS}`" in text
    assert f"`{ADMIN_ADDRESS}`" in text
    assert f"`{TOKEN_VARIABLE}`" in text
    assert f"`{FILE_VARIABLE}`" in text
    assert f"under {SHORT} characters" in text


def test_security_policy_is_where_people_look_for_it_and_is_of_this_version() -> None:
    version = re.search(r'__version__ = "(\d+\.\d+)', (ROOT / "proxy/__init__.py").read_text("utf-8"))
    assert version is not None
    assert f"| {version[1]}.x, the latest | yes |" in text_of("SECURITY.md")
    assert "docs/security.md" in text_of("SECURITY.md")

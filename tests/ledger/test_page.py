"""The same page for a terminal and as Markdown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.page import Heading, Notes, Paragraph, Picture, Table, markdown_of, text_of, visible

PAGE = (
    Heading(1, "Report"),
    Table(("agent", "share", "recommendation"), [("qa_agent", "10 %", "Hold"), ("b", "5 %", "Go")], frozenset({2})),
    Heading(2, "qa_agent"),
    Paragraph("Hold: a|b *c*", strong=True),
    Notes(("one", "<b>two</b>")),
    Picture("x y/1.svg", "course"),
)


def test_page_as_text() -> None:
    assert list(text_of(PAGE)) == [
        "Report",
        "",
        "agent     share  recommendation",
        "qa_agent   10 %  Hold",
        "b           5 %  Go",
        "",
        "qa_agent",
        "========",
        "",
        "Hold: a|b *c*",
        "",
        "one",
        "<b>two</b>",
        "",
        "course: x y/1.svg",
    ]


def test_page_as_markdown_has_no_structure_that_is_not_the_pages() -> None:
    assert list(markdown_of(PAGE)) == [
        "# Report",
        "",
        "| agent | share | recommendation |",
        "|---|---:|---|",
        "| qa_agent | 10 % | Hold |",
        "| b | 5 % | Go |",
        "",
        "## qa_agent",
        "",
        "**Hold: a\\|b \\*c\\***",
        "",
        "- one",
        "- \\<b\\>two\\</b\\>",
        "",
        "![course](x%20y/1.svg)",
    ]


@given(st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=3), max_size=4))
def test_table_keeps_its_shape_whatever_is_in_it(rows: list[list[str]]) -> None:
    lines = list(markdown_of((Table(("a", "b", "c"), rows),)))
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert "\n" not in line
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == 4


EVIL = ["a\x1b[2Jb", "a\x9b31m", "a\rb", "a\nb", "a\u2028b", "\u202eb", "\u2066b", "a\x00b", "a\x7fb", "a\ud800b"]


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_names_of_a_store_do_not_move_the_terminal_or_end_a_line(evil: str) -> None:
    page = (Heading(2, evil), Paragraph(evil), Notes((evil,)), Table((evil, "b"), [("c", evil)]), Picture("x", evil))
    for lines in (text_of(page), markdown_of(page)):
        for line in lines:
            assert line == "" or line.isprintable()
            assert len(line.splitlines()) <= 1


def test_what_is_seen_stays() -> None:
    assert visible("qa_agent – 10 %, Zoë 東京 🙂 ±") == "qa_agent – 10 %, Zoë 東京 🙂 ±"

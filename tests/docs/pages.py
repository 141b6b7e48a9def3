"""The documentation as data: its pages, tables, fenced blocks, code spans and links."""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from proxy.cli import main

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md", "CHANGELOG.md", "docs/architecture.md", "docs/cli.md", "docs/dashboard.md", "docs/experiments.md",
    "docs/integration.md", "docs/kubernetes.md", "docs/observability.md", "docs/policy.md", "docs/production.md",
    "docs/performance.md", "docs/reliability.md", "docs/scale.md", "docs/security.md", "SECURITY.md",
)  # fmt: skip

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CELL = re.compile(r"(?<!\\)\|")


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str


class Link(NamedTuple):
    """Where a link leads; `page` is relative to the repository, empty for other sites."""

    source: str
    target: str
    page: str
    anchor: str


@cache
def text_of(page: str) -> str:
    """A page's whole text."""
    return (ROOT / page).read_text()


@cache
def prose_of(page: str) -> str:
    """A page's text without its fenced blocks."""
    return _BLOCK.sub("", text_of(page))


def blocks(language: str, *pages: str) -> list[Block]:
    """The fenced blocks of a language, in order."""
    return [
        Block(page, text_of(page)[: found.start()].count("\n") + 1, found[1], found[2])
        for page in pages or PAGES
        for found in _BLOCK.finditer(text_of(page))
        if found[1] == language
    ]


def spans(page: str) -> list[str]:
    """What stands in backticks on a page, blocks left out."""
    return _SPAN.findall(prose_of(page))


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher rank."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n", text_of(page), re.MULTILINE)
    assert found is not None, f"{page} has no heading {heading!r}"
    following = re.search(rf"^#{{1,{len(found[1])}}} ", text_of(page)[found.end() :], re.MULTILINE)
    return text_of(page)[found.end() :][: following.start() if following else None]


def rows(text: str, first: str) -> list[list[str]]:
    """The rows of all tables whose header's first cell begins with `first`, cells stripped."""
    found: list[list[str]] = []
    inside = False
    previous = ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in _CELL.split(line)[1:-1]] if line.startswith("|") else []
        if not previous.startswith("|"):
            inside = bool(cells) and cells[0].startswith(first)
        elif inside and cells and not set("".join(cells)) <= set("-: "):
            found.append(cells)
        previous = line
    assert found, f"no table whose first column is {first!r}"
    return found


def bare(cell: str) -> str:
    """What a cell with a single code span says."""
    found = _SPAN.fullmatch(cell)
    assert found is not None, f"{cell!r} is no code span"
    return found[1]


def links(page: str) -> Iterator[Link]:
    """Every link of a page."""
    for target in _LINK.findall(prose_of(page)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            yield Link(page, target, "", "")
        else:
            resolved = (ROOT / page).parent / path if path else ROOT / page
            yield Link(page, target, str(resolved.resolve().relative_to(ROOT)), anchor)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def help_of(*command: str) -> str:
    """What `splitlane COMMAND --help` prints."""
    shown = io.StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        main([*command, "--help"])
    return shown.getvalue()

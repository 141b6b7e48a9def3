"""A page of headings, paragraphs, tables and pictures, as text for a terminal and as Markdown.  Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote


class Heading(NamedTuple):
    """A part of the page; level 1 is the page's own."""

    level: int
    text: str


class Paragraph(NamedTuple):
    """Some sentences; `strong` is for what decides."""

    text: str
    strong: bool = False


class Notes(NamedTuple):
    """A line each."""

    lines: Sequence[str]


class Table(NamedTuple):
    """Cells; all but the first column stand to the right, save those in `words`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset()


class Picture(NamedTuple):
    """An image; a terminal is told where it is."""

    path: str  # relative to the page, with `/`
    text: str  # what it shows


Block = Heading | Paragraph | Notes | Table | Picture


# What moves a terminal, ends a line or turns text round; a store may hold names that somebody else has written.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with `?` for what would not be seen on its line."""
    return _UNSEEN.sub("?", text)


def text_of(blocks: Iterable[Block]) -> Iterator[str]:
    """Lines for a terminal, with an empty one between two blocks."""
    return map(visible, _text(blocks))


def _text(blocks: Iterable[Block]) -> Iterator[str]:
    for place, block in enumerate(blocks):
        if place:
            yield ""
        match block:
            case Heading(level, text):
                yield text
                if level > 1:
                    yield ("=" if level == 2 else "-") * len(text)
            case Paragraph(text):
                yield text
            case Notes(lines):
                yield from lines
            case Table():
                yield from _aligned(block)
            case Picture(path, text):
                yield f"{text}: {path}"


def markdown_of(blocks: Iterable[Block]) -> Iterator[str]:
    """Lines of GitHub's Markdown, with an empty one between two blocks."""
    return map(visible, _markdown(blocks))


def _markdown(blocks: Iterable[Block]) -> Iterator[str]:
    for place, block in enumerate(blocks):
        if place:
            yield ""
        match block:
            case Heading(level, text):
                yield f"{'#' * level} {text}"
            case Paragraph(text, strong):
                yield f"**{_plain(text)}**" if strong else _plain(text)
            case Notes(lines):
                yield from (f"- {_plain(line)}" for line in lines)
            case Table(head, rows, words):
                yield _row(head)
                yield f"|---|{''.join('---|' if column in words else '---:|' for column in range(1, len(head)))}"
                yield from map(_row, rows)
            case Picture(path, text):
                yield f"![{_plain(text)}]({quote(path)})"


def _aligned(table: Table) -> Iterator[str]:
    left = {0, *table.words}
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    for row in (table.head, *table.rows):
        cells = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


# What would be structure in Markdown; a reason's detail may hold words of a person.
_STRUCTURE = str.maketrans({**{character: f"\\{character}" for character in "\\`*[]<>|"}, "\n": " ", "\r": " "})


def _plain(text: str) -> str:
    return text.translate(_STRUCTURE)

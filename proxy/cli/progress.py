"""How far long work is: one line on standard error that overwrites itself, and only on a terminal."""

import sys
from typing import Self


class Progress:
    """`what`: done/total; `with` clears the line at the end."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def step(self, number: int = 1) -> None:
        """So many more are done."""
        self._done += number
        self._show()

    def _show(self) -> None:
        if self._shown:
            print(f"\r{self._what}: {self._done}/{self._total}", end="", file=sys.stderr, flush=True)

"""What is wrong with a policy file: each problem is one line, and none of them shows a secret.

Hidden as `***` are the values of secret keys, everything that came through `${…}`, and URLs that
carry a password.  A key nobody knows shows its value never: it may be a misspelt `api_key`.
"""

import json
import pathlib
import re
from typing import NamedTuple

Path = tuple[str | int, ...]

HIDDEN = "***"
NOTHING = "nothing"

_SECRET_KEYS = frozenset({"api_key", "slack_webhook", "unit_key"})
_SECRET_PATHS = frozenset({("store", "url")})
_SHOWN_LENGTH = 60
_KEY_HEAD = re.compile(r"[A-Za-z0-9_.-]{0,60}")
_LINE_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class PolicyProblem(NamedTuple):
    """One error.  `line` and `column` count from 1; line 0 means no place in the file."""

    file: str
    line: int
    column: int
    key: str  # dotted path, such as agents.qa_agent.max_tokens; empty: the whole file
    value: str  # as shown to people: quoted, shortened, or hidden
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        return _LINE_BREAKING.sub("?", f"{place}: {key}got {self.value}, expected {self.expected}")


class PolicyError(Exception):
    """A policy file that cannot be used, with everything that is wrong with it.

    `files` are those that were read or looked for: when one of them changes, it is worth another try.
    """

    def __init__(self, problems: tuple[PolicyProblem, ...], files: tuple[pathlib.Path, ...] = ()) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.files = files


class Expanded(str):
    """Text that came through `${…}`: it may be a secret, and may stand for a number or a boolean."""

    __slots__ = ()


def is_secret(path: Path) -> bool:
    """Whether the value at `path` must never be shown."""
    return path in _SECRET_PATHS or (bool(path) and path[-1] in _SECRET_KEYS)


def show_value(value: object, path: Path) -> str:
    """A value as an error may show it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return NOTHING
    if isinstance(value, Expanded) or is_secret(path) or (isinstance(value, str) and _has_password(value)):
        return HIDDEN
    text = json.dumps(value)  # ASCII on one line, whatever is in it
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"


def show_path(path: Path) -> str:
    """A key path as text: `rollout.ramp[1]`.  Keys of `identity.keys` stem from tokens: hidden."""
    shown = ""
    for depth, part in enumerate(path):
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            name = HIDDEN if path[:depth] == ("identity", "keys") else part[:_SHOWN_LENGTH]
            shown += f".{name}" if shown else name
    return shown


def show_unknown_path(path: Path) -> str:
    """Like `show_path`, for a last key nobody knows.

    A forgotten space makes `api_key:sk-…` one long key, so only what looks like a key is shown.
    """
    last = str(path[-1])
    head = _KEY_HEAD.match(last)
    shown = head[0] if head else ""
    return show_path((*path[:-1], shown if shown == last else f"{shown}…"))


def _has_password(text: str) -> bool:
    return "://" in text and "@" in text

"""A policy file's YAML as a tree that remembers where everything was written.

Built from the parser's events, not by a YAML loader, because the file is a person's and the laws differ:

- Keys are text exactly as written.  `on:`, `no:` and `429:` are keys, not booleans and numbers.
- Plain values follow YAML 1.2: only `true` and `false` are booleans; `yes`, `on` and `1:30` are text.
- No tags, so nothing is ever constructed.  No key twice.  No alias inside its own anchor.
- Size, depth and node count (aliases counted as what they stand for) are bounded before anything is built.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import yaml

from proxy.policy.problems import NOTHING, Path, PolicyError, PolicyProblem, show_path

MAX_BYTES = 1 << 20  # Kubernetes' own limit on a ConfigMap
MAX_DEPTH = 32  # the deepest key of a policy is at 5
MAX_NODES = 20_000  # a thousand agents with ten settings each take half of it

Scalar = str | int | float | bool | None

# libyaml is twenty times faster and in every wheel of PyYAML; the fallback accepts the same files.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTED = re.compile(r"'[^'<]{2,}'")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?")
_WORDS: Mapping[str, bool | None] = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    "null": None,
    "Null": None,
    "NULL": None,
    "~": None,
    "": None,
}


@dataclass(slots=True)
class Node:
    """A value and where it stands; in a mapping, where its key stands.  Both count from 1."""

    source: str  # the file, as errors show it
    line: int
    column: int
    value: "Scalar | dict[str, Node] | list[Node]"

    def plain(self) -> object:
        """The value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def count(self) -> int:
        """How many values there are, this one included and aliases in full."""
        return 1 + sum(child.count() for child in self._children())

    def height(self) -> int:
        """Levels below this one; as costly as the values there."""
        return max((1 + child.height() for child in self._children()), default=int(isinstance(self.value, dict | list)))

    def _children(self) -> "Iterable[Node]":
        if isinstance(self.value, dict):
            return self.value.values()
        return self.value if isinstance(self.value, list) else ()

    def find(self, path: Path) -> "tuple[Node, Path]":
        """The node at `path`, or the last one on the way there, and how far the way went."""
        node = self
        for depth, part in enumerate(path):
            if (child := node._child(part)) is None:
                return node, path[:depth]
            node = child
        return node, path

    def _child(self, part: str | int) -> "Node | None":
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int):
            return self.value[part] if part < len(self.value) else None
        return None


def read_document(content: bytes, source: str) -> tuple[Node, list[PolicyProblem]]:
    """The file's tree, and the problems that do not keep the rest from being checked.

    Raises `PolicyError` where there is no tree: not UTF-8, not YAML, over a bound.
    """
    if len(content) > MAX_BYTES:
        raise PolicyError((PolicyProblem(source, 0, 0, "", "more", "at most 1 MiB"),))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode("utf-8-sig", "replace"))
        raise PolicyError((PolicyProblem(source, line, column, "", "other bytes", "UTF-8 text"),)) from None
    if bad := _UNPRINTABLE.search(text):
        line, column = _place(text[: bad.start()])
        found = f"the control character U+{ord(bad[0]):04X}"
        raise PolicyError((PolicyProblem(source, line, column, "", found, "printable text"),))
    reader = _Reader(text, source)
    try:
        return reader.document(), reader.problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        # The parser quotes what it stumbled over, which may be a piece of a secret.
        what = _QUOTED.sub("'…'", " ".join(filter(None, (error.context, error.problem))))
        problem = PolicyProblem(source, line, column, "", "a syntax error", f"YAML ({' '.join(what.split())})")
    except yaml.YAMLError:
        problem = PolicyProblem(source, 0, 0, "", "a syntax error", "YAML")
    raise PolicyError((problem,)) from None


def resolve(text: str) -> Scalar:
    """What an unquoted text stands for, by YAML 1.2's core schema without hex, octal, nan and infinity."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader:
    """Recursive descent over the events of one document; the depth bound bounds the recursion."""

    def __init__(self, text: str, source: str) -> None:
        self.problems: list[PolicyProblem] = []
        self._source = source
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._anchors: dict[str, tuple[Node, int]] = {}  # finished nodes and how many nodes each holds
        self._count = 0

    def document(self) -> Node:
        next(self._events)  # stream start
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            self._refuse(start, (), NOTHING, "a mapping of keys to values")
        root = self._node(next(self._events), ())
        next(self._events)  # document end
        if not isinstance(extra := next(self._events), yaml.StreamEndEvent):
            self._refuse(extra, (), "a second document", "one document")
        return root

    def _node(self, event: yaml.Event, path: Path) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)  # nothing else stands here
        if event.tag is not None:
            self._report(event, path, "a tag", "a value without one (tags are not allowed)")
        if len(path) > MAX_DEPTH:
            self._refuse(event, (), "deeper nesting", f"at most {MAX_DEPTH} levels")
        before = self._count
        self._grow(event, 1)
        node = Node(self._source, *_position(event), None)
        if isinstance(event, yaml.ScalarEvent):
            node.value = resolve(event.value) if event.implicit[0] else event.value
        elif isinstance(event, yaml.MappingStartEvent):
            node.value = self._mapping(path)
        else:
            node.value = self._sequence(path)
        if event.anchor is not None:  # registered when finished, so nothing can contain itself
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _mapping(self, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(event, path, "a compound key", "a plain key")
            key = event.value
            if event.tag is not None or event.anchor is not None:
                self._report(event, path, "a key with a tag or an anchor", "a plain key")
            value = self._node(next(self._events), (*path, key))
            if key in entries:
                first = entries[key].line
                self._report(event, (*path, key), "the same key again", f"it once (first in line {first})")
                continue
            # A copy: an aliased value stands in several places.  What it holds is shared.
            line, column = _position(event)
            entries[key] = replace(value, line=line, column=column)
        return entries

    def _sequence(self, path: Path) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _alias(self, event: yaml.AliasEvent, path: Path) -> Node:
        if event.anchor not in self._anchors:
            self._refuse(event, path, "an alias of nothing", "an anchor before its alias")
        node, count = self._anchors[event.anchor]
        self._grow(event, count)
        if len(path) + node.height() > MAX_DEPTH:  # chained aliases reach deeper than any text does
            self._refuse(event, (), "deeper nesting", f"at most {MAX_DEPTH} levels")
        line, column = _position(event)
        return replace(node, line=line, column=column)

    def _grow(self, event: yaml.Event, count: int) -> None:
        self._count += count
        if self._count > MAX_NODES:
            self._refuse(event, (), "more", f"at most {MAX_NODES} values, aliases counted in full")

    def _report(self, event: yaml.Event, path: Path, value: str, expected: str) -> None:
        line, column = _position(event)
        self.problems.append(PolicyProblem(self._source, line, column, show_path(path), value, expected))

    def _refuse(self, event: yaml.Event, path: Path, value: str, expected: str) -> NoReturn:
        self._report(event, path, value, expected)
        raise PolicyError(tuple(self.problems))


def _position(event: yaml.Event) -> tuple[int, int]:
    """Line and column of an event's start, from 1."""
    mark = event.start_mark
    assert mark is not None, "parsed events carry marks"
    return mark.line + 1, mark.column + 1


def _place(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows the text `before`."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")

"""Values set in a policy file's text, everything else kept byte by byte.  Pure.

A YAML library that writes documents anew moves comments, list indents and spaces; a person's file is
theirs.  So only the value's own characters are replaced, and new keys are lines of their own:

- Quotes stay as they were written; a text that plain YAML would read as something else gets quotes.
- A new key stands last in its mapping, in that mapping's style.
- What comes out is read again, and must be the old document with exactly these values set.
- An alias, or an anchor that an alias needs, is never changed: it would change elsewhere too.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from proxy.policy.document import Scalar, read_document, resolve
from proxy.policy.problems import PolicyError, PolicyProblem, show_path

Value = Scalar | Mapping[str, "Value"]
KeyPath = tuple[str, ...]

_BOM = "\ufeff"
_BREAKS_PLAIN = (":", " #")  # a colon breaks it before a space only; with quotes nobody has to know
_STARTS_NO_PLAIN = frozenset("-?:,[]{}#&*!|>'\"%@` ")
_FLOW = frozenset(",[]{}")


def set_values(content: bytes, source: str, values: Mapping[KeyPath, Value]) -> bytes:
    """The file's bytes with each key path set; mappings on the way are made where they are missing.

    A mapping as a value is for a key that does not exist yet.  Raises `PolicyError` where the file is
    not a policy's YAML, or a value stands where it cannot be set alone.
    """
    text = content.decode("utf-8-sig", "replace")
    expected = _plain(content, source)
    for path, value in values.items():
        text = _set(text, source, path, value)
        _set_plain(expected, path, value)
    result = (_BOM if content.startswith(_BOM.encode()) else "").encode() + text.encode()
    keys = ", ".join(show_path(path) for path in values)
    try:
        if _plain(result, source) == expected:
            return result
    except PolicyError:
        pass
    raise _by_hand(source, keys)


def _plain(content: bytes, source: str) -> Any:
    root, problems = read_document(content, source)
    if problems:
        raise PolicyError(tuple(problems))
    return root.plain()


def _set_plain(data: Any, path: KeyPath, value: Value) -> None:
    for key in path[:-1]:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
    data[path[-1]] = _copied(value)


def _copied(value: Value) -> Any:
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _set(text: str, source: str, path: KeyPath, value: Value) -> str:
    node: Any = _compose(text, source, path)
    if not isinstance(node, yaml.MappingNode):
        raise _refusal(source, "", "something else", "a mapping of keys to values")
    style = _Style(text, node)
    in_flow = False
    for depth, key in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            raise _refusal(source, show_path(path[:depth]), "something else", "a mapping of keys to values")
        in_flow = in_flow or bool(node.flow_style)
        found = next(((name, child) for name, child in node.value if name.value == key), None)
        if found is None:
            return _insert(text, node, path[depth:], value, style, in_flow=in_flow)
        name, child = found
        if _is_alias(name, child):
            raise _by_hand(source, show_path(path[: depth + 1]))
        if _is_nothing(child) and depth + 1 < len(path):
            # The way goes on below a key that has no value yet.
            return _replace(text, child, _nested(path[depth + 1 :], value), style, _indent_of(name), in_flow=in_flow)
        node = child
    if not isinstance(node, yaml.ScalarNode):
        raise _refusal(source, show_path(path), "a mapping or a list", "a single value")
    return _replace(text, node, value, style, 0, in_flow=in_flow)


class _Style:
    """How a file's people write: their line ends, and how far one level is indented."""

    def __init__(self, text: str, root: Any) -> None:
        self.line_break = "\r\n" if "\r\n" in text else "\n"
        blocks = [child for _, child in root.value if isinstance(child, yaml.MappingNode) and not child.flow_style]
        self.step = _indent_of(blocks[0].value[0][0]) - int(root.start_mark.column) if blocks else 2

    def block(self, entries: Mapping[str, Value], indent: int) -> str:
        """Keys and values, a line each."""
        written = ""
        for key, value in entries.items():
            head = f"{' ' * indent}{_scalar(key, None, in_flow=False)}:"
            if isinstance(value, Mapping):
                written += head + self.line_break + self.block(value, indent + self.step)
            else:
                written += f"{head} {_scalar(value, None, in_flow=False)}{self.line_break}"
        return written


def _compose(text: str, source: str, path: KeyPath) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:  # what an earlier value made of it
        raise _by_hand(source, show_path(path)) from None


def _replace(text: str, node: yaml.ScalarNode, value: Value, style: "_Style", indent: int, *, in_flow: bool) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(value, Mapping) and not in_flow:
        written = style.line_break + style.block(value, indent + style.step).rstrip("\r\n")
    else:
        written = _flow(value) if isinstance(value, Mapping) else _scalar(value, node.style, in_flow=in_flow)
        written = written if start < end else f" {written}"
    return text[:start] + written + text[end:]


def _insert(text: str, node: yaml.MappingNode, path: KeyPath, value: Value, style: "_Style", *, in_flow: bool) -> str:
    """A new last key in a mapping."""
    entry = {path[0]: _nested(path[1:], value)}
    if in_flow:
        inside = _flow(entry)[1:-1]
        if not node.value:
            place = node.end_mark.index - 1
            return text[:place] + inside + text[place:]
        place = _end_of_entry(*node.value[-1])
        return f"{text[:place]}, {inside}{text[place:]}"
    indent = _indent_of(node.value[0][0])
    written = style.block(entry, indent)
    # Below the last value and the comment on its line.
    place = _last_place(node)
    at_line_start = place > 0 and text[place - 1] == "\n"  # after a block scalar
    end = place if at_line_start else text.find("\n", place) + 1
    if end == 0:
        return text + style.line_break + written
    return text[:end] + written + text[end:]


def _last_place(node: yaml.Node) -> int:
    """Where the last value below a block ends: the block's own end is behind the comments that follow it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(last, tuple) and _is_alias(*last):
            return _end_of_entry(*last)
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def _is_alias(name: yaml.Node, child: yaml.Node) -> bool:
    # An alias has the marks of its anchor, which stands further up.
    return bool(child.start_mark.index < name.end_mark.index)


def _end_of_entry(name: yaml.Node, child: yaml.Node) -> int:
    return int((name if _is_alias(name, child) else child).end_mark.index)


def _nested(path: KeyPath, value: Value) -> Value:
    for key in reversed(path):
        value = {key: value}
    return value


def _flow(entries: Mapping[str, Value]) -> str:
    def written(value: Value) -> str:
        return _flow(value) if isinstance(value, Mapping) else _scalar(value, None, in_flow=True)

    return "{" + ", ".join(f"{written(key)}: {written(value)}" for key, value in entries.items()) + "}"


def _scalar(value: Scalar, style: str | None, *, in_flow: bool) -> str:
    """A value as YAML; `style` is the quote it had."""
    if not isinstance(value, str):
        return json.dumps(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style != '"' and _is_plain(value, in_flow=in_flow):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str, *, in_flow: bool) -> bool:
    return (
        text.isprintable()
        and resolve(text) == text
        and text[0] not in _STARTS_NO_PLAIN
        and text[-1] != " "
        and not any(part in text for part in _BREAKS_PLAIN)
        and not (in_flow and _FLOW.intersection(text))
    )


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and resolve(node.value) is None


def _indent_of(name: yaml.Node) -> int:
    return int(name.start_mark.column)


def _by_hand(source: str, keys: str) -> PolicyError:
    return _refusal(source, keys, "a value that cannot be set alone", "no anchor and no alias there: edit it by hand")


def _refusal(source: str, key: str, value: str, expected: str) -> PolicyError:
    return PolicyError((PolicyProblem(source, 0, 0, key, value, expected),))

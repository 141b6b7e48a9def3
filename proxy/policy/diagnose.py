"""What pydantic found wrong, in the words of the person who wrote the file."""

import difflib
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from proxy.policy.config import PolicyConfig
from proxy.policy.document import Node
from proxy.policy.problems import (
    HIDDEN,
    NOTHING,
    Path,
    PolicyProblem,
    show_path,
    show_unknown_path,
    show_value,
)

_MAPPING = "a mapping of keys to values"
_EXPECTED = {
    "missing": "a value (this key is required)",
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": "a list",
    "string_type": "text (in quotes, where it looks like a number)",
}


def diagnose(error: ValidationError, root: Node) -> list[PolicyProblem]:
    """Every error of the validation, each with its place in the document."""
    return [_problem(dict(found), root) for found in error.errors(include_url=False, include_input=False)]


def _problem(error: dict[str, Any], root: Node) -> PolicyProblem:
    path: Path = error["loc"]
    kind: str = error["type"]
    if path and path[-1] == "[key]":
        return _bad_key(path[:-1], _expected(error), root)
    node, found = root.find(path)
    if kind == "extra_forbidden":
        key = show_unknown_path(path)
        return PolicyProblem(node.source, node.line, node.column, key, "an unknown key", _known_keys(path))
    if not isinstance(node.value, dict | list):
        path = found  # the rest of the path was made up by a shorthand
    if found != path:
        value = NOTHING
    elif isinstance(node.value, str) and _wants_structure(kind):
        value = "text"  # which, where a section was expected, may be anything, secrets included
    else:
        value = show_value(node.value, path)
    return PolicyProblem(node.source, node.line, node.column, show_path(path), value, _expected(error))


def _bad_key(path: Path, expected: str, root: Node) -> PolicyProblem:
    node, _ = root.find(path)
    value = HIDDEN if path[:-1] == ("identity", "keys") else show_value(path[-1], path)
    return PolicyProblem(node.source, node.line, node.column, show_path(path[:-1]), f"the key {value}", expected)


def _wants_structure(kind: str) -> bool:
    return _EXPECTED.get(kind) in (_MAPPING, "a list")


def _expected(error: dict[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error" | "enum":
            return str(context["expected"]).replace("'", "")
        case kind:
            return _EXPECTED.get(kind, str(error["msg"]))


def _known_keys(path: Path) -> str:
    """The keys that could have stood at the end of `path`, and the likeliest one."""
    section = _section_at(path[:-1])
    names = [field.alias or name for name, field in section.model_fields.items()]
    close = difflib.get_close_matches(str(path[-1])[:64], names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"one of: {', '.join(names)}{hint}"


def _section_at(path: Path) -> type[BaseModel]:
    """The section of the configuration that reads the mapping at `path`."""
    kind: Any = PolicyConfig
    for part in path:
        if get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        else:
            fields = kind.model_fields.items()
            kind = next(field.annotation for name, field in fields if part in (name, field.alias))
        if isinstance(kind, UnionType):  # SomeConfig | None
            kind = get_args(kind)[0]
    section: type[BaseModel] = kind
    return section

"""`${…}` in the text of a policy file, after YAML has been parsed: a value can never add structure.

    ${NAME}            the environment variable; an error where it is unset or empty
    ${NAME:-default}   the variable, or the default where it is unset or empty; the default may be empty
    ${file:PATH}       a file's text without its last line break; relative to the policy file's folder
    $${                the two characters ${ themselves

A key whose whole value expands to nothing (`${NAME:-}`) counts as left out.
"""

import pathlib
import re
from collections.abc import Mapping

from proxy.policy.document import Node
from proxy.policy.problems import Expanded, Path, PolicyProblem, show_path

MAX_FILE = 64 << 10  # bytes; a secret, not a data set

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)


class _UnresolvedError(Exception):
    """A reference that stands for nothing; says what was found and what was expected."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__(expected)
        self.value = value
        self.expected = expected


def expand_document(root: Node, source: str, env: Mapping[str, str]) -> list[PolicyProblem]:
    """Expand every text below `root` in place; returns what could not be resolved."""
    problems: list[PolicyProblem] = []
    _expand(root, (), source, env, problems)
    return problems


def _expand(node: Node, path: Path, source: str, env: Mapping[str, str], problems: list[PolicyProblem]) -> None:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            _expand(child, (*path, key), source, env, problems)
        node.value = {key: child for key, child in node.value.items() if not _is_left_out(child)}
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            _expand(child, (*path, index), source, env, problems)
    # An aliased value is met several times, and what it expanded to is final.
    elif isinstance(node.value, str) and not isinstance(node.value, Expanded) and "${" in node.value:
        try:
            node.value = Expanded(_expand_text(node.value, pathlib.Path(source).parent, env))
        except _UnresolvedError as error:
            problems.append(PolicyProblem(source, node.line, node.column, show_path(path), error.value, error.expected))


def _is_left_out(node: Node) -> bool:
    return isinstance(node.value, Expanded) and not node.value


def _expand_text(text: str, folder: pathlib.Path, env: Mapping[str, str]) -> str:
    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        reference = match[1] or ""
        if reference.startswith("file:"):
            return _file(reference.removeprefix("file:"), folder)
        variable = _VARIABLE.fullmatch(reference)
        if variable is None:
            raise _UnresolvedError("another form of ${…}", "${NAME}, ${NAME:-default} or ${file:PATH}")
        name, has_default, default = variable.groups()
        value = env.get(name, "")
        if not value and not has_default:
            # Empty counts as unset: an emptied secret must not quietly become "no key".
            raise _UnresolvedError(f"${{{name}}}", f"the environment variable {name} to be set and not empty")
        return value or str(default)

    return _REFERENCE.sub(replacement, text)


def _file(name: str, folder: pathlib.Path) -> str:
    try:
        with (folder / name).open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise _UnresolvedError(f"${{file:{name}}}", "a file of at most 64 KiB")
        return content.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise _UnresolvedError(f"${{file:{name}}}", f"a readable file ({reason})") from None

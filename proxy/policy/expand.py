"""`${…}` in the text of a policy file, after YAML has been parsed: a value can never add structure.

    ${NAME}            the environment variable; an error where it is unset or empty
    ${NAME:-default}   the variable, or the default where it is unset or empty; the default may be empty
    ${file:PATH}       a file's text without its last line break; relative to the folder of the file it is written in
    $${                the two characters ${ themselves

A key whose whole value expands to nothing (`${NAME:-}`) counts as left out.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping

from proxy.policy.document import Node
from proxy.policy.files import PolicyFiles, UnreadableError
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


def expand_document(root: Node, env: Mapping[str, str], files: PolicyFiles) -> list[PolicyProblem]:
    """Expand every text below `root` in place; returns what could not be resolved."""
    problems: list[PolicyProblem] = []
    _expand(root, (), env, files, problems)
    return problems


def expanded_paths(root: Node) -> frozenset[Path]:
    """Where, in an expanded document, values stand that came through `${…}`: none of them may be shown."""
    return frozenset(_find_expanded(root, ()))


def _find_expanded(node: Node, path: Path) -> Iterator[Path]:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _find_expanded(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from _find_expanded(child, (*path, index))
    elif isinstance(node.value, Expanded):
        yield path


def _expand(node: Node, path: Path, env: Mapping[str, str], files: PolicyFiles, problems: list[PolicyProblem]) -> None:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            _expand(child, (*path, key), env, files, problems)
        node.value = {key: child for key, child in node.value.items() if not _is_left_out(child)}
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            _expand(child, (*path, index), env, files, problems)
    # An aliased value is met several times, and what it expanded to is final.
    elif isinstance(node.value, str) and not isinstance(node.value, Expanded) and "${" in node.value:
        try:
            node.value = Expanded(_expand_text(node.value, pathlib.Path(node.source).parent, env, files))
        except _UnresolvedError as error:
            place = node.source, node.line, node.column
            problems.append(PolicyProblem(*place, show_path(path), error.value, error.expected))


def _is_left_out(node: Node) -> bool:
    return isinstance(node.value, Expanded) and not node.value


def _expand_text(text: str, folder: pathlib.Path, env: Mapping[str, str], files: PolicyFiles) -> str:
    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        reference = match[1] or ""
        if reference.startswith("file:"):
            return _file(reference.removeprefix("file:"), folder, files)
        variable = _VARIABLE.fullmatch(reference)
        if variable is None:
            raise _UnresolvedError("another form of ${…}", "${NAME}, ${NAME:-default} or ${file:PATH}")
        name, has_default, default = variable.groups()
        if has_default:
            return env.get(name) or str(default)
        # Empty counts as unset: an emptied secret must not quietly become "no key".
        if value := _required(env, name):
            return value
        raise _UnresolvedError(f"${{{name}}}", f"the environment variable {name} to be set and not empty")

    return _REFERENCE.sub(replacement, text)


def _required(env: Mapping[str, str], name: str) -> str:
    try:
        return env[name]  # not `get`: `Placeholders` answers for what is missing here, and only here
    except KeyError:
        return ""


def _file(name: str, folder: pathlib.Path, files: PolicyFiles) -> str:
    found = f"${{file:{name}}}"
    try:
        content = files.read(folder / name)
        if len(content) > MAX_FILE:
            raise _UnresolvedError(found, "a file of at most 64 KiB")
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnreadableError as error:
        raise _UnresolvedError(found, f"a readable file ({error})") from None
    except UnicodeDecodeError:
        raise _UnresolvedError(found, "a readable file (not UTF-8 text)") from None

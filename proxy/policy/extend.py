"""`extends:`: a policy file stands on another one, and writes only what is different.

The laws of merging, at every depth:

- A mapping on a mapping: key by key, and the extending file's value wins.
- Everything else replaces what was there: a list, a text, a number, `null`, a mapping on one of
  these, one of these on a mapping.  So `fallback: NAME` forgets the other file's `{upstream: …}`.
- One level: a file that is extended extends none itself.
- Merging comes before `${…}`: what is replaced is never expanded, and a key that expands to nothing
  counts as left out of the merged document.

Every value keeps the file and the place where it was written.  The bounds on one file hold for both
together.
"""

import pathlib
from dataclasses import replace
from typing import NoReturn

from proxy.policy.document import MAX_BYTES, MAX_NODES, Node, read_document
from proxy.policy.files import PolicyFiles, UnreadableError
from proxy.policy.problems import PolicyError, PolicyProblem, show_value

_KEY = "extends"


def read_merged(content: bytes, source: str, files: PolicyFiles) -> tuple[Node, list[PolicyProblem]]:
    """The tree of a file's bytes on top of the file it extends, if any, with problems that do not end the check.

    Raises `PolicyError` where there is no tree.
    """
    root, problems = read_document(content, source)
    named = root.value.get(_KEY) if isinstance(root.value, dict) else None
    if named is None or named.value is None:
        return root, problems
    try:
        base, found = _base(named, len(content), files)
    except PolicyError as error:
        raise PolicyError((*problems, *error.problems)) from None
    merged = _merge(base, root)
    if merged.count() > MAX_NODES:
        found.append(_problem(named, "more", f"at most {MAX_NODES} values in both files, aliases counted in full"))
    return merged, problems + found


def _base(named: Node, size: int, files: PolicyFiles) -> tuple[Node, list[PolicyProblem]]:
    """The document that the key `extends` names; the file with the key has `size` bytes."""
    written = named.value
    if not isinstance(written, str) or not written or "${" in written:
        _refuse(named, show_value(written, ()), "the path of a policy file, relative to this one and without ${…}")
    path = pathlib.Path(named.source).parent / written
    try:
        content = files.read(path)
    except UnreadableError as error:
        _refuse(named, f"{show_value(written, ())} ({error})", "a readable policy file")
    if size + len(content) > MAX_BYTES:
        _refuse(named, "more", "at most 1 MiB in both files")
    base, problems = read_document(content, str(path))
    if not isinstance(base.value, dict):
        raise PolicyError((PolicyProblem(base.source, 1, 1, "", "something else", "a mapping of keys to values"),))
    if deeper := base.value.get(_KEY):
        problems.append(_problem(deeper, "a third file", f"none, because {named.source} extends this one: one level"))
    return base, problems


def _merge(base: Node, over: Node) -> Node:
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    # A copy, because an aliased mapping may stand elsewhere too.
    return replace(over, value=merged)


def _problem(named: Node, value: str, expected: str) -> PolicyProblem:
    return PolicyProblem(named.source, named.line, named.column, _KEY, value, expected)


def _refuse(named: Node, value: str, expected: str) -> NoReturn:
    raise PolicyError((_problem(named, value, expected),))

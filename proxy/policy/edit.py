"""Change values in a policy file, and leave all else as its people wrote it.

The laws:

- Comments, order and quotes stay.  A changed value keeps its quotes, a new key comes last.
- Nothing but the named values changes, and the result is a sound policy; or nothing is written.
- A reader sees the old file or the new one: written beside it, synced, renamed.  The mode stays, and a
  link stays a link.
- A file that is read-only, or that somebody else has changed meanwhile, is an error.
"""

import contextlib
import difflib
import os
import stat
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from ruamel.yaml.tokens import CommentToken

from proxy.policy.document import read_document
from proxy.policy.load import LoadedPolicy, read_policy

KeyPath = tuple[str, ...]
Value = str | int | float | Mapping[str, "Value"]

_INDENTS = ((2, 2, 0), (2, 4, 2), (4, 4, 0), (4, 6, 4))  # mapping, sequence, and the dash within the latter


class EditError(Exception):
    """A file that was not changed; the message is one line and names it."""


class FileEdit(NamedTuple):
    """One file, before and after."""

    path: Path
    before: bytes
    after: bytes

    def unified(self) -> str:
        """What `diff -u` says; empty where nothing changes."""
        before, after = (text.decode().splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(before, after, str(self.path), str(self.path)))


class EditedPolicy(NamedTuple):
    """A policy before and after, and its files' texts."""

    old: LoadedPolicy
    new: LoadedPolicy
    files: tuple[FileEdit, ...]  # only those that change


def edit_policy(
    path: Path,
    changes: Mapping[KeyPath, Value],
    env: Mapping[str, str],
    *,
    where_written: bool = False,
    dry_run: bool = False,
) -> EditedPolicy:
    """Set `changes`, key path → value, in the policy file at `path`.

    `where_written`: what stands in the file that this one extends, or has its nearest parent there, is
    changed there, for all who extend it; otherwise everything is written into `path`.  Raises
    `EditError`, and `PolicyError` where the file or the result is unsound; nothing has been written then.
    """
    old = read_policy(path, env)
    by_file: dict[Path, dict[KeyPath, Value]] = {}
    for key, value in changes.items():
        by_file.setdefault(_place(path, key) if where_written else path, {})[key] = value
    edits = tuple(_edit(file, wanted) for file, wanted in by_file.items())
    new = read_policy(path, env, {edit.path: edit.after for edit in edits})
    edited = EditedPolicy(old, new, tuple(edit for edit in edits if edit.before != edit.after))
    if not dry_run:
        for edit in edited.files:
            _replace(edit)
    return edited


def written(path: Path, key: KeyPath) -> Any:
    """The value as it stands in the policy file at `path`, else in the one it extends, else None."""
    found, depth = _find(_plain(_place(path, key)), key)
    return found if depth == len(key) else None


def _place(path: Path, key: KeyPath) -> Path:
    """The one of the two files in which most of the key stands; `path` itself where neither has more."""
    own = _plain(path)
    if not isinstance(own, dict) or not isinstance(own.get("extends"), str):
        return path
    base = path.parent / own["extends"]
    return base if _find(_plain(base), key)[1] > _find(own, key)[1] else path


def _plain(path: Path) -> Any:
    root, _ = read_document(path.read_bytes(), str(path))
    return root.plain()


def _find(data: Any, key: KeyPath) -> tuple[Any, int]:
    """The deepest value on the way to `key`, and how many of its parts that took."""
    for depth, part in enumerate(key):
        if not isinstance(data, dict) or part not in data:
            return data, depth
        data = data[part]
    return data, len(key)


def _edit(path: Path, changes: Mapping[KeyPath, Value]) -> FileEdit:
    before = path.read_bytes()
    expected, _ = read_document(before, str(path))
    wanted = expected.plain()
    text = before.decode().replace("\r\n", "\n")
    yaml = _yaml_like(text)
    data = yaml.load(text)
    for key, value in changes.items():
        _set_plain(wanted, key, value)
        _set(path, data, key, value)
    written = _dump(yaml, data)
    after = (written.replace("\n", "\r\n") if b"\r\n" in before else written).encode()
    found, _ = read_document(after, str(path))
    if found.plain() != wanted:
        raise EditError(f"{path}: more than the wanted values would change (is one of them an alias?); edit it by hand")
    return FileEdit(path, before, after)


def _yaml_like(text: str) -> YAML:
    """The round trip that repeats the text best, ideally to the letter."""

    def changed(indent: tuple[int, int, int]) -> int:
        yaml = _yaml(text, indent)
        return sum(
            line[:1] in "+-" for line in difflib.ndiff(text.splitlines(), _dump(yaml, yaml.load(text)).splitlines())
        )

    return _yaml(text, min(_INDENTS, key=changed))


def _yaml(text: str, indent: tuple[int, int, int]) -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20  # never break a line
    yaml.explicit_start = text.startswith("---") or "\n---" in text
    yaml.indent(*indent)
    yaml.representer.add_representer(type(None), lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def _dump(yaml: YAML, data: Any) -> str:
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _set(path: Path, data: Any, key: KeyPath, value: Value) -> None:
    *parents, last = key
    for depth, part in enumerate(parents):
        if not isinstance(data, CommentedMap):
            raise EditError(f"{path}: {'.'.join(key[:depth])} is no mapping")
        if part not in data:
            _append(data, part, CommentedMap())
        data = data[part]
    if not isinstance(data, CommentedMap):
        raise EditError(f"{path}: {'.'.join(parents)} is no mapping")
    if last in data:
        data[last] = _scalar(value, data[last])
    else:
        _append(data, last, _scalar(value, None))


def _set_plain(data: Any, key: KeyPath, value: Value) -> None:
    *parents, last = key
    for part in parents:
        data = data.setdefault(part, {})
    data[last] = _expandable(value) if isinstance(value, str) else _plain_value(value)


def _plain_value(value: Value) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_value(each) for key, each in value.items()}
    return _expandable(value) if isinstance(value, str) else value


def _expandable(text: str) -> str:
    return text.replace("${", "$${")  # `${` would be read as a reference


def _scalar(value: Value, replaced: object) -> Any:
    """A value as it is written; in the quotes of the text it replaces."""
    if isinstance(value, Mapping):
        return CommentedMap({key: _scalar(each, None) for key, each in value.items()})
    if isinstance(value, str):
        text = _expandable(value)
        if isinstance(replaced, str) and type(replaced) is not str:
            return type(replaced)(text)
        return DoubleQuotedScalarString(text) if ":" in text else text
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _append(mapping: CommentedMap, key: str, value: Any) -> None:
    """A new last key; the empty lines and comments below the mapping stay below it."""
    below = None if mapping.fa.flow_style() else _cut_below(mapping)
    mapping[key] = value
    if below:
        holder, last = _last_leaf(mapping)
        mark = CommentMark(0)
        holder.ca.items[last] = [None, None, CommentToken("\n" + below, mark, mark), None]


def _cut_below(mapping: CommentedMap) -> str:
    """Take what follows the mapping's last line off its last leaf, where the parser has put it."""
    if not mapping:
        return ""
    holder, last = _last_leaf(mapping)
    place = 2 if isinstance(holder, CommentedMap) else 0
    tokens = holder.ca.items.get(last)
    token = tokens[place] if tokens and len(tokens) > place else None
    if token is None:
        return ""
    line, _, below = token.value.partition("\n")
    token.value = line + "\n"
    if not line:
        del holder.ca.items[last]
    return str(below)


def _last_leaf(data: Any) -> tuple[Any, Any]:
    while True:
        last = next(reversed(data)) if isinstance(data, CommentedMap) else len(data) - 1
        value = data[last]
        if not isinstance(value, CommentedMap | CommentedSeq) or not value or value.fa.flow_style():
            return data, last
        data = value


def _replace(edit: FileEdit) -> None:
    target = edit.path.resolve()
    try:
        status = target.stat()
        if not status.st_mode & 0o222:
            raise EditError(f"{edit.path}: is read-only")  # also for root, who could
        draft = _write_beside(target, edit.after, status)
        try:
            changed = target.read_bytes() != edit.before
            if not changed:
                draft.replace(target)
                _sync_folder(target.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise EditError(f"{edit.path}: cannot be written ({error.strerror or error})") from None
    if changed:
        raise EditError(f"{edit.path}: somebody else has just changed it; nothing was written, try again")


def _write_beside(target: Path, content: bytes, status: os.stat_result) -> Path:
    """A synced file in the same folder, with the mode and, where allowed, the owner of `status`."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(PermissionError):
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
        os.fsync(file.fileno())
    return Path(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

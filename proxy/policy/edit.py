"""Change values in a policy file, and leave all else as its people wrote it.

The laws:

- Every other byte stays (see `splice.py`): a changed value keeps its quotes, a new key comes last.
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from proxy.policy.document import read_document
from proxy.policy.files import fingerprint_of
from proxy.policy.load import LoadedPolicy, read_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.problems import PolicyError
from proxy.policy.splice import KeyPath, Value, set_values


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


class OtherPolicy(NamedTuple):
    """A policy that changes too, because it extends a file that does."""

    path: Path
    old: LoadedPolicy
    new: LoadedPolicy


class EditedPolicy(NamedTuple):
    """A policy before and after, and its files' texts."""

    old: LoadedPolicy
    new: LoadedPolicy
    files: tuple[FileEdit, ...]  # only those that change
    others: tuple[OtherPolicy, ...]  # in the same folder


def edit_policy(
    path: Path,
    changes: Mapping[KeyPath, Value],
    env: Mapping[str, str],
    *,
    where_written: bool = False,
    dry_run: bool = False,
    expected: bytes | None = None,
) -> EditedPolicy:
    """Set `changes`, key path → value, in the policy file at `path`.

    `where_written`: what stands in the file that this one extends, or has its nearest parent there, is
    changed there, for all who extend it; otherwise everything is written into `path`.  `expected`: the
    fingerprint of the policy that the changes were decided on; another one is an error.  Raises
    `EditError`, and `PolicyError` where the file or the result is unsound, also that of another policy
    that extends the changed file; nothing has been written then.
    """
    old = read_policy(path, env)
    if expected is not None and old.fingerprint != expected:
        raise _changed(path)
    by_file: dict[Path, dict[KeyPath, Value]] = {}
    for key, value in changes.items():
        by_file.setdefault(_place(path, key) if where_written else path, {})[key] = value
    edits = tuple(_edit(file, wanted) for file, wanted in by_file.items())
    if fingerprint_of(old.files) != old.fingerprint:
        raise _changed(path)  # between the two readings
    new = read_policy(path, env, {edit.path: edit.after for edit in edits})
    files = tuple(edit for edit in edits if edit.before != edit.after)
    edited = EditedPolicy(old, new, files, tuple(_others(path, files)))
    if not dry_run:
        for edit in edited.files:
            _replace(edit)
    return edited


def written(path: Path, key: KeyPath) -> Any:
    """The value as it stands in the policy file at `path`, else in the one it extends, else None."""
    found, depth = _find(_plain(_place(path, key)), key)
    return found if depth == len(key) else None


def _others(path: Path, edits: tuple[FileEdit, ...]) -> Iterator[OtherPolicy]:
    """The sound policies beside a changed file that extend it, `path` itself left out."""
    for edit in edits:
        for other in sorted(edit.path.parent.glob("*.y*ml")):
            if other.samefile(path):
                continue
            try:
                old = read_policy(other, env := Placeholders(os.environ))
            except PolicyError:
                continue  # it cannot be served now either, and whoever wants it will be told
            if old.config.extends is None:
                continue
            base = other.parent / old.config.extends
            if base.samefile(edit.path):
                yield OtherPolicy(other, old, read_policy(other, env, {base: edit.after}))


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
    after = set_values(before, str(path), {key: _as_written(value) for key, value in changes.items()})
    return FileEdit(path, before, after)


def _as_written(value: Value) -> Value:
    if isinstance(value, Mapping):
        return {key: _as_written(each) for key, each in value.items()}
    if isinstance(value, str):
        return value.replace("${", "$${")  # `${` would be read as a reference
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        raise _changed(edit.path)


def _changed(path: Path) -> EditError:
    return EditError(f"{path}: somebody else has just changed it; nothing was written, try again")


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

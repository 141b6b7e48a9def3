"""The files a policy is made of: the policy file, the one it extends, mounted secrets.

- Only regular files: a pipe would block its reader for ever, and a device may never end.
- Never more than one byte above the limit of the largest, whatever a file's size claims.
- Each is read once, so that one load sees one content; what could not be read is remembered too,
  because it may appear.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from proxy.policy.document import MAX_BYTES


class UnreadableError(Exception):
    """A file that cannot be read; the message is the reason, without the name."""


class PolicyFiles:
    """Reads the files of one load, and remembers them."""

    def __init__(self) -> None:
        self._contents: dict[Path, bytes] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        """All that was asked for, in that order."""
        return tuple(self._contents)

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that change when any of the files does."""
        digests = (hashlib.sha256(content).digest() for content in self._contents.values())
        return hashlib.sha256(b"".join(digests)).digest()

    def read(self, path: Path) -> bytes:
        """The file's bytes, or its first `MAX_BYTES` + 1; raises `UnreadableError`."""
        if self._contents.get(path):
            return self._contents[path]
        self._contents[path] = b""
        try:
            self._contents[path] = _read(path)
        except (OSError, ValueError) as error:  # ValueError: NUL in the path
            reason = error.strerror if isinstance(error, OSError) else None
            raise UnreadableError(reason or "impossible name") from None
        return self._contents[path]


def fingerprint_of(paths: Iterable[Path]) -> bytes:
    """What `PolicyFiles.fingerprint` is when these files are read now, in this order."""
    files = PolicyFiles()
    for path in paths:
        with contextlib.suppress(UnreadableError):
            files.read(path)
    return files.fingerprint


def _read(path: Path) -> bytes:
    # Not blocking, because opening a pipe waits for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = bytearray()
        while piece := os.read(descriptor, MAX_BYTES + 1 - len(content)):
            content += piece
        return bytes(content)
    finally:
        os.close(descriptor)

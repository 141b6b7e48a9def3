"""The key that users are hashed with: from the policy, or made once and kept beside the store.

Without the key a hash tells nothing; with another key the same user is somebody else.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from proxy.ledger.database import DatabaseUnavailable

# BLAKE2b takes no longer keys.
MAX_KEY = 64
MIN_KEY = 32  # half of what we write


def key_beside(path: Path) -> bytes:
    """The key of the store in file `path`, made where there is none; raises DatabaseUnavailable.

    It is put in place by a link, which fails where a name is taken: of several proxies that start at
    once one makes the key, and none ever reads half of one.
    """
    place = path.with_name(f"{path.name}.key")
    fresh = place.with_name(f"{place.name}.{secrets.token_hex(8)}")
    try:
        if not place.exists():
            place.parent.mkdir(0o700, parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(32))
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(fresh, place)
            finally:
                fresh.unlink()
        key = place.read_bytes().strip()[:MAX_KEY]
    except OSError as error:
        raise DatabaseUnavailable(f"{place}: {error.strerror or error}") from None
    if len(key) < MIN_KEY:
        raise DatabaseUnavailable(f"{place}: not a key; without it, known users count as new ones")
    return key

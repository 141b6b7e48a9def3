"""The admin token: what changes the proxy needs it.

It comes from the environment or from a file, never from a command line, where every process of the host could
read it, nor from a URL, which ends up in logs and histories.  Guessing is not slowed down: whoever must roll back
at night would be locked out by it, and a token of random characters is not guessed.
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from proxy.admin.answers import error_answer
from proxy.admin.door import Refusals
from proxy.wire.errors import ErrorAnswer

log = logging.getLogger("splitlane.listener")

TOKEN_VARIABLE = "SPLITLANE_ADMIN_TOKEN"  # noqa: S105 its name
FILE_VARIABLE = "SPLITLANE_ADMIN_TOKEN_FILE"
# Characters below which a token is likely to be a word.
SHORT = 16
MOST_BYTES = 4096  # of the file

_NO_TOKEN = ErrorAnswer(
    403, "permission_error", "no_admin_token",
    f"this changes the proxy, and no token guards it: start it with {TOKEN_VARIABLE} set",
)  # fmt: skip
_WRONG_TOKEN = ErrorAnswer(
    401, "authentication_error", "wrong_admin_token", f"send Authorization: Bearer with the value of {TOKEN_VARIABLE}"
)


class TokenError(ValueError):
    """The environment names no usable token; the message says what to change, and shows nothing of it."""


def token_of(env: Mapping[str, str]) -> str | Path:
    """The token, empty where there is none, or the file that has it.  Raises TokenError."""
    token, file = env.get(TOKEN_VARIABLE, "").strip(), env.get(FILE_VARIABLE, "")
    if not file:
        return token
    if token:
        raise TokenError(f"{TOKEN_VARIABLE} and {FILE_VARIABLE} are both set: which one is meant?")
    try:
        if not _read(Path(file)):
            raise TokenError(f"{FILE_VARIABLE}: {file} is empty")
    except OSError as error:
        raise TokenError(f"{FILE_VARIABLE}: {file}: {error.strerror or error}") from None
    return Path(file)


class Guard:
    """What changes something needs the admin token."""

    def __init__(self, token: str | Path, refusals: Refusals) -> None:
        """An empty `token` opens nothing.  A file is read each time, so that a new token needs no restart."""
        self._file = token if isinstance(token, Path) else None
        self._token = b"" if isinstance(token, Path) else _bytes(token)
        self._refusals = refusals
        if 0 < len(self._current()) < SHORT:
            log.warning("the admin token has fewer than %d characters: `openssl rand -hex 32` makes one", SHORT)

    @property
    def opens_something(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._current())

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to who may not change anything; None: go on."""
        token = self._current()
        if not token:
            return error_answer(_NO_TOKEN)
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        # Of the digests, so that not even the token's length is in the time it takes.
        same = hmac.compare_digest(hashlib.sha256(_bytes(sent)).digest(), hashlib.sha256(token).digest())
        if not same or scheme.lower() != "bearer":
            self._refusals.note(request, _WRONG_TOKEN.code)
            return error_answer(_WRONG_TOKEN)
        return None

    def _current(self) -> bytes:
        if self._file is None:
            return self._token
        try:
            return _read(self._file)
        except OSError as error:
            log.error("the admin token cannot be read: %s: %s", self._file, error.strerror)  # noqa: TRY400
            return b""


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES).strip()


def _bytes(text: str) -> bytes:
    return text.strip().encode("utf-8", "surrogateescape")  # as a header is taken

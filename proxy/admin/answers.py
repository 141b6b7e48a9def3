"""What all admin routes answer with: JSON, OpenAI's error object, times, and who may change something."""

import hmac
import json
from datetime import UTC, datetime

from aiohttp import web

from proxy.wire.errors import ErrorAnswer, bad_request

TOKEN_VARIABLE = "SPLITLANE_ADMIN_TOKEN"  # noqa: S105 its name

_NO_TOKEN = ErrorAnswer(
    403, "permission_error", "no_admin_token",
    f"this changes the proxy, and no token guards it: start it with {TOKEN_VARIABLE} set",
)  # fmt: skip
_WRONG_TOKEN = ErrorAnswer(
    401, "authentication_error", "wrong_admin_token", f"send Authorization: Bearer with the value of {TOKEN_VARIABLE}"
)
UNKNOWN_AGENT = bad_request("the active policy has no such agent; /policy lists them", "unknown_agent", 404)


class Guard:
    """What changes something needs the admin token."""

    def __init__(self, token: str) -> None:
        """An empty `token` opens nothing."""
        self._token = token.strip().encode("utf-8", "surrogateescape")  # as the header is taken

    @property
    def opens_something(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._token)

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to who may not change anything; None: go on."""
        if not self._token:
            return error_answer(_NO_TOKEN)
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        sound = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), self._token)
        if not sound or scheme.lower() != "bearer":
            return error_answer(_WRONG_TOKEN)
        return None


def utc_time(seconds: float) -> str:
    """Unix time as RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_answer(answer: object, status: int = 200) -> web.Response:
    """An answer that people can read too."""
    # Not orjson: a file's name may hold what is no Unicode, and stays printable here.
    return web.Response(status=status, text=json.dumps(answer, indent=2) + "\n", content_type="application/json")


def error_answer(answer: ErrorAnswer, problems: list[dict[str, object]] | None = None) -> web.Response:
    """An error of ours, with the problems of a policy where there are some."""
    body = json.loads(answer.body())
    if problems is not None:
        body["error"]["problems"] = problems
    return json_answer(body, answer.status)

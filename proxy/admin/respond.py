"""What the admin routes answer with, and who may change anything by them."""

import hmac
from typing import Any

import orjson
from aiohttp import web

from proxy.policy.problems import PolicyProblem
from proxy.wire.errors import ErrorAnswer, bad_request

TOKEN_VARIABLE = "SPLITLANE_ADMIN_TOKEN"  # noqa: S105 its name

_NO_TOKEN = bad_request(
    f"this proxy was started without {TOKEN_VARIABLE}, so nothing can be changed here", "no_admin_token", 403
)
_WRONG_TOKEN = ErrorAnswer(
    401, "authentication_error", "wrong_admin_token", f"send `Authorization: Bearer` with the value of {TOKEN_VARIABLE}"
)


def answer(content: dict[str, Any]) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(content, option=orjson.OPT_INDENT_2), content_type="application/json")


def refusal(error: ErrorAnswer, **more: Any) -> web.Response:
    """OpenAI's error object, with `more` inside it."""
    content = orjson.loads(error.body())
    content["error"] |= more
    return web.Response(status=error.status, body=orjson.dumps(content), content_type="application/json")


def may_change(request: web.Request, token: str) -> web.Response | None:
    """The refusal of a request that must not change anything; None where it may."""
    if not token:
        return refusal(_NO_TOKEN)
    kind, _, sent = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(sent.encode(), token.encode()):
        return refusal(_WRONG_TOKEN)
    return None


def listed(problems: tuple[PolicyProblem, ...]) -> list[dict[str, Any]]:
    """Problems for machines, each with its line for people."""
    return [{**problem._asdict(), "message": str(problem)} for problem in problems]

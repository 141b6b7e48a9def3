"""What all admin routes answer with: JSON, OpenAI's error object, times."""

import json
from datetime import UTC, datetime

from aiohttp import web

from proxy.wire.errors import ErrorAnswer, bad_request

UNKNOWN_AGENT = bad_request("the active policy has no such agent; /policy lists them", "unknown_agent", 404)


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

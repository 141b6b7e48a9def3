"""Who may ask the admin listener at all, and what a browser may do with its answers.

A browser sits inside the network that the listener trusts, and runs any site's pages.  Such a page can ask
here under a name of its own that it has pointed at this address, ask across sites, or show an answer in a
frame: the first is told by Host, the second by what browsers say of every request, the third is forbidden
by headers.  No answer has a CORS header, so a page elsewhere reads none.
"""

import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, Metric

from proxy.admin.answers import error_answer
from proxy.policy.address import is_within, parse_peers
from proxy.wire.errors import ErrorAnswer

log = logging.getLogger("splitlane.listener")

# Seconds between two log lines of the same kind of refusal: guessing must not flood the log.
TOLD_EVERY = 60.0

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_MISDIRECTED = ErrorAnswer(
    421, "invalid_request_error", "misdirected",
    "the admin listener is not asked by this name: use its address or localhost, or add the name to listen.admin_hosts",
)  # fmt: skip
_FOREIGN = ErrorAnswer(403, "permission_error", "foreign_origin", "another site's page may not ask for this")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusals:
    """How often who was turned away: counted by reason, and told in the log now and then."""

    def __init__(self, codes: Sequence[str] = ("wrong_admin_token", "foreign_origin", "misdirected")) -> None:
        self._counts = dict.fromkeys(codes, 0)
        self._untold = dict.fromkeys(codes, 0)
        self._told_at: dict[str, float] = {}

    def note(self, request: web.Request, code: str) -> None:
        """One more."""
        self._counts[code] += 1
        self._untold[code] += 1
        now = time.monotonic()
        if code in self._told_at and now - self._told_at[code] < TOLD_EVERY:
            return
        count, self._untold[code] = self._untold[code], 0
        self._told_at[code] = now
        log.warning("refused on the admin listener: %s, %d times, last from %s", code, count, request.remote)

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        family = CounterMetricFamily(
            "splitlane_admin_refusals", "Requests that the admin listener turned away.", labels=["code"]
        )
        for code, count in self._counts.items():
            family.add_metric([code], count)
        yield family


class Door:
    """What every request to the admin listener passes first."""

    def __init__(self, host: str, names: Sequence[str], refusals: Refusals) -> None:
        """`host`: where it listens; `names`: those it may be asked by, besides addresses and localhost."""
        self._names = frozenset(name.lower() for name in names)
        # Beyond this host a listener has names that we cannot know, and the network says who reaches it.
        self._any_name = not names and host != "localhost" and not is_within(parse_peers("loopback") or (), host)
        self._refusals = refusals

    def guard(self, app: web.Application) -> None:
        """Put it in front of all routes."""

        @web.middleware
        async def pass_door(request: web.Request, handler: _Handler) -> web.StreamResponse:
            answer = _MISDIRECTED if not self._is_ours(request) else _FOREIGN if _is_foreign(request) else None
            if answer is None:
                return await handler(request)
            self._refusals.note(request, answer.code)
            return error_answer(answer)

        app.middlewares.append(pass_door)
        app.on_response_prepare.append(_add_headers)

    def _is_ours(self, request: web.Request) -> bool:
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1:
            return not hosts  # HTTP/1.0 needs none
        name = _without_port(hosts[0].strip().lower())
        known = name in self._names or name == "localhost" or name.endswith(".localhost")
        return known or self._any_name or _is_ip(name)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _is_foreign(request: web.Request) -> bool:
    """Whether a browser sends this for another site's page; a person who follows a link there is welcome."""
    headers = request.headers
    if (site := headers.get("Sec-Fetch-Site")) is not None:
        followed = (
            request.method == "GET"
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest") == "document"
        )
        return site not in ("none", "same-origin") and not followed
    origin = headers.get("Origin")  # of an older browser, or of one that does not trust plain HTTP
    return origin is not None and origin.lower().partition("://")[2] != headers.get("Host", "").strip().lower()


def _without_port(host: str) -> str:
    """The name or address of a Host field, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

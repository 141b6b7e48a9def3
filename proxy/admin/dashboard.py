"""The dashboard: one page at `/`, what it loads, and the events that keep it up to date.

Everything comes from here and goes nowhere else.  Looking takes no token; what changes something is asked of
the other routes, with it.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import orjson
from aiohttp import web

from proxy.admin.answers import error_answer
from proxy.admin.dashboard_state import DashboardState, told_of
from proxy.admin.reporter import Reporter, ReportFailed
from proxy.admin.watchers import Watchers
from proxy.tasks import spawn
from proxy.wire.errors import bad_request

# Seconds between two reports, while somebody looks.
VERDICTS_EVERY = 60.0
MOST_REPORT = 4 << 20  # bytes of a report that the event loop reads
PAGE = Path(__file__).parent / "page"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Further than what `door.py` puts on every answer: the page may load what is its own, and ask for it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

_TOO_LARGE = f"the report is larger than {MOST_REPORT >> 20} MiB: splitlane report shows single agents"
_NO_FILE = bad_request("the dashboard has no such file", "not_found", 404)


class DashboardRoutes:
    """Handlers over one process."""

    def __init__(self, state: DashboardState, reporter: Reporter) -> None:
        """Raises OSError where the page's files are missing."""
        self._state = state
        self._reporter = reporter
        self._files = {path.name: path.read_text("utf-8") for path in PAGE.iterdir() if path.suffix[1:] in TYPES}
        self._watchers = Watchers(self._look)
        self._verdicts_at = 0.0  # the loop's time from which new ones are asked for
        self._asking: asyncio.Task[None] | None = None
        self.events = self._watchers.watch

    async def page(self, _: web.Request) -> web.Response:
        """GET /"""
        return self._file("index.html")

    async def file(self, request: web.Request) -> web.Response:
        """GET /dashboard/FILE: what the page loads."""
        return self._file(request.match_info["file"])

    def changed(self) -> None:
        """Somebody's order was obeyed: what is shown is old."""
        self._reporter.forget()
        self._verdicts_at = 0.0
        self._watchers.look_now()

    def stop(self) -> None:
        """Let all watchers go."""
        self._watchers.stop()

    def _file(self, name: str) -> web.Response:
        if name not in self._files:
            return error_answer(_NO_FILE)
        kind = TYPES[name.rpartition(".")[2]]
        return web.Response(text=self._files[name], content_type=kind, headers=HEADERS)

    async def _look(self) -> None:
        live = await self._state.live()
        self._publish(b"live", live)
        now = asyncio.get_running_loop().time()
        if now >= self._verdicts_at and (self._asking is None or self._asking.done()):
            self._verdicts_at = now + VERDICTS_EVERY
            if live["stored"]:
                self._asking = spawn(self._ask_for_verdicts(), "dashboard's verdicts")
            else:
                self._publish(b"verdicts", {"problem": "no_store"})

    async def _ask_for_verdicts(self) -> None:
        try:
            report = await self._reporter.show("--json")
            told = told_of(report) if len(report) <= MOST_REPORT else {"problem": _TOO_LARGE}
        except ReportFailed as failed:
            told = {"problem": str(failed)}
        self._publish(b"verdicts", told)

    def _publish(self, kind: bytes, data: Mapping[str, object]) -> None:
        self._watchers.publish(kind, orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS))  # some are words of ours

"""The report over HTTP: text, JSON and Markdown; see `reporter.py` for how it is made."""

from collections.abc import Callable

from aiohttp import web

from proxy.admin.reporter import Reporter, ReportFailed
from proxy.wire.errors import ErrorAnswer

_NO_STORE = ErrorAnswer(
    503, "server_error", "no_store", "the policy keeps no records: set store.url, and there is a report"
)


class ReportRoutes:
    """Handlers over one process's reporter."""

    def __init__(self, reporter: Reporter, stored: Callable[[], bool]) -> None:
        """`stored`: whether the active policy keeps records."""
        self._reporter = reporter
        self._stored = stored

    async def text(self, _: web.Request) -> web.Response:
        """GET /report"""
        return await self._answer("text/plain")

    async def json(self, _: web.Request) -> web.Response:
        """GET /report.json"""
        return await self._answer("application/json", "--json")

    async def markdown(self, _: web.Request) -> web.Response:
        """GET /report.md"""
        return await self._answer("text/markdown", "--md")

    async def _answer(self, kind: str, *shape: str) -> web.Response:
        if not self._stored():
            return _error(_NO_STORE)
        try:
            body = await self._reporter.show(*shape)
        except ReportFailed as failed:
            return _error(ErrorAnswer(503, "server_error", "report_failed", f"there is no report: {failed}"))
        response = web.Response(body=body, content_type=kind, charset="utf-8")
        response.enable_compression()  # where it was asked for
        return response


def _error(answer: ErrorAnswer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body(), content_type="application/json")

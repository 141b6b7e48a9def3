"""Server-sent events to whoever looks: one computation for all, and none while nobody looks."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.admin.answers import error_answer
from proxy.tasks import spawn
from proxy.wire.errors import ErrorAnswer

log = logging.getLogger("splitlane.dashboard")

EVERY = 2.0  # seconds between two looks
REST = 20.0  # … and of what one takes: with thousands of agents, requests come first
MOST_WATCHERS = 32
# Seconds that a watcher may leave what was sent unread.  What it misses meanwhile is not sent later.
STALLED = 10.0

_FULL = ErrorAnswer(503, "server_error", "too_many_watchers", f"{MOST_WATCHERS} look already", 10)
_NO_EVENTS = ErrorAnswer(406, "invalid_request_error", "events_only", "this is a stream: Accept: text/event-stream")


class Watchers:
    """Those who look at one process; the event loop's."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        """`look` is called every `EVERY` seconds, or less often, while somebody is there, and publishes."""
        self._look = look
        self._events: dict[bytes, tuple[int, bytes]] = {}  # the latest of each kind, numbered
        self._number = 0
        self._present = 0
        self._published = asyncio.Event()
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def present(self) -> int:
        """How many look."""
        return self._present

    def publish(self, kind: bytes, data: bytes) -> None:
        """An event for all, in place of the one of its kind before; `data` has no line break."""
        self._number += 1
        self._events[kind] = self._number, b"event: %b\ndata: %b\n\n" % (kind, data)
        self._published.set()
        self._published = asyncio.Event()

    def look_now(self) -> None:
        """Do not wait for the next look: something has changed."""
        self._wake.set()

    def stop(self) -> None:
        """Let all go."""
        self._stopped = True
        self._published.set()
        if self._looking is not None:
            self._looking.cancel()

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """A stream of events, until the watcher leaves, stalls, or the process ends."""
        if "text/event-stream" not in request.headers.get("Accept", ""):
            return error_answer(_NO_EVENTS)
        if self._present >= MOST_WATCHERS or self._stopped:
            return error_answer(_FULL)
        self._present += 1
        try:
            if self._present == 1:
                self._looking = spawn(self._go_on_looking(), "dashboard")
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
            await response.prepare(request)
            await self._send_all(request, response)
            return response
        finally:
            self._present -= 1
            if not self._present and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _send_all(self, request: web.Request, response: web.StreamResponse) -> None:
        sent = 0
        while not self._stopped:
            published = self._published
            new = sorted(event for event in self._events.values() if event[0] > sent)
            for number, event in new:
                try:
                    async with asyncio.timeout(STALLED):
                        await response.write(event)
                except TimeoutError:
                    if request.transport is not None:
                        request.transport.abort()
                    return
                except ConnectionError:
                    return  # it has left
                sent = number
            if not new:
                await published.wait()

    async def _go_on_looking(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._look()
            except Exception:
                log.exception("the dashboard cannot be brought up to date")
            took = time.monotonic() - began
            try:
                async with asyncio.timeout(max(EVERY, REST * took)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

"""When the daily report is written, and that a bad one changes nothing.

It is due when its file is older than the last time that its hour struck: so a proxy that was down at the
hour writes it after its next start, and one that is started twice a day writes it once.  The clock
is looked at every 20 seconds, because it may be set and machines sleep.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proxy.admin.reporter import ReportFailed
from proxy.policy.snapshot import Policy, ReportPolicy
from proxy.tasks import blocking, spawn

log = logging.getLogger("splitlane.report")

# Seconds between two looks at the clock.
LOOK = 20.0
# Seconds after a failure until the next try.
AGAIN = 3600.0
# Proxies that share a server spread their reports over so many seconds.
SPREAD = 60.0


def last_due(at: int, now: float) -> float:
    """Unix seconds of the latest moment, not after `now`, that is `at` minutes after midnight UTC."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=at // 60, minute=at % 60, second=0, microsecond=0)
    struck = today if today.timestamp() <= now else today - timedelta(days=1)
    return struck.timestamp()


class DailyReport:
    """Follows the policy's hour; its methods belong to the event loop."""

    def __init__(
        self,
        write: Callable[[str], Awaitable[None]],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`write` makes the report; it raises ReportFailed."""
        self._write = write
        self._clock = clock
        self._sleep = sleep
        self._following: tuple[ReportPolicy, str | None] | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, policy: Policy) -> None:
        """Write what the policy asks for, from now on."""
        wanted = policy.report, policy.store.url
        if wanted == self._following:
            return
        self.stop()
        self._following = wanted
        report, url = wanted
        if report.at is not None and url is not None:
            spread = 0.0 if url.startswith("sqlite:") else random.uniform(0, SPREAD)
            self._task = spawn(self._run(report.at, report.path, spread), "daily report")

    def stop(self) -> None:
        """Follow nothing."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._following = None

    async def _run(self, at: int, path: str, spread: float) -> None:
        done = blocked = 0.0  # the hour that is dealt with, and until when a failure is not tried again
        while True:
            now = self._clock()
            due = last_due(at, now - spread)
            if due > done and now >= blocked:
                if await blocking(lambda: _written(path), "report look") >= due or await self._try(path):
                    done = due
                else:
                    blocked = self._clock() + AGAIN
            await self._sleep(LOOK)

    async def _try(self, path: str) -> bool:
        try:
            await self._write(path)
        except ReportFailed as failed:
            log.error("no report in %s: %s; the next try is in an hour", path, failed)  # noqa: TRY400 told in its words
            return False
        log.info("the report is in %s", path)
        return True


def _written(path: str) -> float:
    """Unix seconds of the report that is there; before all time where there is none, or none to be seen."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0

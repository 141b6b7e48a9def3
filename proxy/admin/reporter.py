"""The report, made by a process of its own: the event loop only waits for it.

- It is our own command line, at the lowest priority, so that requests never pay for a report.
- One at a time, whoever asks.  What hangs is killed; what fails is told in one line.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric

from proxy.admin import child
from proxy.tasks import spawn

log = logging.getLogger("splitlane.report")

PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from proxy.ledger.process import give_way; give_way();"
    " from proxy.cli import main; sys.exit(main({argv!r}))"
)
# Seconds that a report may take.  It runs when nobody else wants to: on a busy machine that is not often.
WRITE_WITHIN = 900.0
SHOW_WITHIN = 60.0
# Seconds that an answer is shown again, and that a failure is.
FRESH = 30.0
FAILED_FRESH = 5.0
MOST_BYTES = 16 << 20  # of a report that is shown
# Seconds that a killed one may take to be gone.
KILLED = 2.0


class ReportFailed(Exception):  # noqa: N818 it may work the next time
    """There is no report; the message is one line without secrets."""


class Reporter:
    """Makes the reports of one process; its methods belong to the event loop."""

    def __init__(self, policy: Path) -> None:
        """`policy`: the file, which the report reads anew."""
        self._policy = policy
        self._counts = dict.fromkeys(("done", "failed", "late"), 0)
        self._turn = asyncio.Lock()
        self._shown: dict[str, tuple[float, asyncio.Task[bytes]]] = {}  # by shape, and until when
        self._making: set[asyncio.Task[bytes]] = set()
        self._stopped = False

    async def write(self, path: str) -> None:
        """Write the report to a file, with its pictures.  Raises ReportFailed."""
        await asyncio.shield(self._start(("--md", "--output", path), WRITE_WITHIN))

    async def show(self, *shape: str) -> bytes:
        """The report, at most `FRESH` seconds old; `shape`: --json, --md, or none for text.  Raises ReportFailed."""
        loop = asyncio.get_running_loop()
        key = " ".join(shape)
        until, making = self._shown.get(key, (0.0, None))
        if making is None or (making.done() and loop.time() >= until):
            making = self._start(shape, SHOW_WITHIN)
            making.add_done_callback(lambda made: self._keep(key, made, loop.time()))
            self._shown[key] = (0.0, making)
        return await asyncio.shield(making)  # who leaves does not take it from the others

    def forget(self) -> None:
        """What is shown next is made anew: something has changed."""
        self._shown.clear()

    def stop(self) -> None:
        """End what runs; nothing is made any more."""
        self._stopped = True
        for making in self._making:
            making.cancel()

    async def ended(self) -> None:
        """Wait until nothing runs, once it was told to stop; a process that cannot be killed is left behind."""
        if self._making:
            await asyncio.wait(self._making, timeout=KILLED)

    def collect(self) -> Iterator[Metric]:
        """How the reports went."""
        family = CounterMetricFamily("splitlane_reports", "Reports by what became of them.", labels=["outcome"])
        for outcome, count in self._counts.items():
            family.add_metric([outcome], count)
        yield family

    def _start(self, options: Sequence[str], within: float) -> asyncio.Task[bytes]:
        making = spawn(self._make(options, within), "report")
        self._making.add(making)
        making.add_done_callback(self._forget)
        return making

    def _forget(self, made: asyncio.Task[bytes]) -> None:
        self._making.discard(made)
        if not made.cancelled():
            made.exception()  # seen, also where whoever asked has left

    def _keep(self, key: str, made: asyncio.Task[bytes], now: float) -> None:
        if self._shown.get(key, (0.0, None))[1] is not made:
            return  # forgotten meanwhile
        failed = made.cancelled() or made.exception() is not None
        self._shown[key] = (now + (FAILED_FRESH if failed else FRESH), made)

    async def _make(self, options: Sequence[str], within: float) -> bytes:
        if self._stopped:
            raise _stopping()
        outcome = "failed"
        try:
            async with asyncio.timeout(within), self._turn:
                made = await self._run(["report", "--policy", str(self._policy), *options])
            outcome = "done"
            return made
        except TimeoutError:
            outcome = "late"
            raise ReportFailed(f"it was not done within {within:g} seconds") from None
        except asyncio.CancelledError:
            raise _stopping() from None
        finally:
            self._counts[outcome] += 1

    async def _run(self, argv: list[str]) -> bytes:
        try:
            code, text, _ = ended = await child.run(PROGRAM, argv, MOST_BYTES)
        except OSError as error:
            raise ReportFailed(f"its process does not start: {error}") from None
        if code != 0:
            raise ReportFailed(ended.last_words.removeprefix("splitlane report: ") or f"its process ended with {code}")
        if len(text) > MOST_BYTES:
            raise ReportFailed(f"it is larger than {MOST_BYTES >> 20} MiB: ask splitlane report for single agents")
        return text


def _stopping() -> ReportFailed:
    return ReportFailed("the proxy is shutting down")

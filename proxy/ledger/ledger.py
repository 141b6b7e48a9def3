"""The ledger: records in, rows in a store, numbers on how that goes."""

import asyncio
import logging
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.ledger.feedback import feedback_row
from proxy.ledger.queue import Waiting
from proxy.ledger.row import row_of
from proxy.ledger.writer import Spent, Writer
from proxy.policy.snapshot import StorePolicy
from proxy.tasks import blocking
from proxy.words import Feedback, Record

log = logging.getLogger("splitlane.ledger")

# Seconds that the start of the process waits for the store: its key, and what was spent before.
OPEN_WITHIN = 1.0
# Seconds at the end of the process, or of a store, to write what is left.
CLOSE_WITHIN = 3.0


class Ledger:
    """Keeps records for the store of the active policy; its methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_key: Callable[[bytes], None],
        on_spent: Callable[[Spent], None] = lambda spent: None,
    ) -> None:
        """`on_key` gets what hashes users, `on_spent` what other processes spent today: on the event loop."""
        self._loop = loop
        self._on_key = on_key
        self._on_spent = on_spent
        self._opened = asyncio.Event()
        self._waiting = Waiting()
        self._writer: Writer | None = None
        self._store: StorePolicy | None = None
        self._changing = asyncio.Lock()

    def settle(self, record: Record) -> None:
        """Keep a record; where there is no room, count that it was dropped."""
        row = row_of(record)
        self._waiting.records.put(row, row.size)

    def rate(self, feedback: Feedback) -> None:
        """Keep a feedback, which finds its request in the store."""
        row = feedback_row(feedback)
        self._waiting.feedback.put(row, len(row))

    async def follow(self, store: StorePolicy) -> None:
        """Keep records in `store` from now on, and wait a little for it to open."""
        async with self._changing:
            if store == self._store:
                return
            await self._end()
            self._store = store
            if store.url is None:
                return
            self._opened.clear()
            self._writer = Writer(store, self._waiting, self._on_open, self._when_spent)
            self._writer.start()
            try:
                async with asyncio.timeout(OPEN_WITHIN):
                    await self._opened.wait()
            except TimeoutError:
                log.warning("the store does not open; requests are served, records are held")

    async def stop(self) -> None:
        """Write what is left, within a few seconds."""
        async with self._changing:
            await self._end()
        left = self._waiting.records.queued
        if left:
            log.error("%d records were not written", left)

    async def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await blocking(lambda: writer.close(CLOSE_WITHIN), "ledger end")

    def collect(self) -> Iterator[Metric]:
        """Enqueued is written, dropped and queued, at every moment."""
        queue, writer = self._waiting.records, self._writer
        for name, text, count in (
            ("enqueued", "Records handed to the ledger.", queue.enqueued),
            ("written", "Records in the store.", queue.written),
            ("dropped", "Records that are lost: no room, or refused by the store.", queue.dropped),
            ("rejected", "Records among the dropped that the store refused, and keeps aside.", queue.lost),
        ):
            yield CounterMetricFamily(f"splitlane_ledger_{name}", text, value=count)
        yield GaugeMetricFamily("splitlane_ledger_queued", "Records that wait to be written.", value=queue.queued)
        yield GaugeMetricFamily("splitlane_ledger_queued_bytes", "Their size.", value=queue.size)
        feedback = CounterMetricFamily("splitlane_feedback", "Feedback by what became of it.", labels=["outcome"])
        rated = self._waiting.feedback
        feedback.add_metric(["accepted"], rated.enqueued - rated.refused)
        feedback.add_metric(["dropped"], rated.dropped)
        feedback.add_metric(["joined"], self._waiting.joined)
        feedback.add_metric(["unknown"], self._waiting.unknown)
        yield feedback
        up = writer is not None and writer.up
        yield GaugeMetricFamily("splitlane_ledger_up", "1: the store takes what it is given.", value=up)

    def _on_open(self, key: bytes) -> None:
        self._on_loop(self._on_key, key)
        self._on_loop(self._opened.set)

    def _when_spent(self, spent: Spent) -> None:
        self._on_loop(self._on_spent, spent)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has closed: nobody wants to know any more
            log.debug("the process ends")

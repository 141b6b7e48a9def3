"""The ledger: records in, batches out to a writer, numbers on how that goes.

A batch is forgotten when the writer says that it is written; a writer that dies is started again, and
gets what its predecessor did not report.  The batch's id makes what was committed all the same count once.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.ledger.brakes import Command
from proxy.ledger.braking import Braking, OnBrakes
from proxy.ledger.feedback import feedback_row
from proxy.ledger.frames import Message
from proxy.ledger.keeper import Keeper
from proxy.ledger.queue import Packer, Queue
from proxy.ledger.standing import Standing
from proxy.ledger.writer import CLOSE_WITHIN, Spent
from proxy.policy.snapshot import StorePolicy
from proxy.tasks import spawn
from proxy.words import Brake, Feedback

log = logging.getLogger("splitlane.ledger")

# Records in a batch: a fifth of a millisecond of the event loop.
MAX_BATCH = 512
# Batches that are on their way at once.
WINDOW = 8
# Records that wait, from which on the writer no longer waits for the requests to leave it some time.
HURRY_AT = 100_000
# Feedback that waits.
MAX_FEEDBACK = 20_000
# Seconds that the start of the process waits for the store: its key, and what was spent before.
OPEN_WITHIN = 1.0
# Seconds at the end for a store that does not even answer.
HOPELESS = 0.3
# Seconds before a writer that died is started again: at first, and at most.
SOONEST, LATEST = 0.2, 5.0


class _Sent(NamedTuple):
    """A batch that is not reported as written."""

    batch: Message
    rows: int
    ratings: int
    commands: list[Command]


class Ledger:
    """Keeps records for the store of the active policy; its methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_key: Callable[[bytes], None],
        on_spent: Callable[[Spent], None],
        on_brakes: OnBrakes,
    ) -> None:
        """`on_key` gets what hashes users, `on_spent` what other processes spent today.

        `on_brakes` gets the brakes in force, by agent, whenever they change: also within `trip` and `clear`.
        """
        self._loop = loop
        self._on_key = on_key
        self._on_spent = on_spent
        self._proxy = secrets.token_hex(8)  # this life of this process
        self.standing: Standing | None = None  # as told last; None: nothing yet
        self._records = Queue()
        self._packer = Packer(self._records, MAX_BATCH, lambda: self._send(MAX_BATCH))
        self.take = self._packer.take  # keeps records
        self._feedback = Queue(max_rows=MAX_FEEDBACK)
        self._joined = self._unknown = 0
        self._braking = Braking(on_brakes)
        self._sent: dict[str, _Sent] = {}  # batches that are not reported as written
        self._batches = 0
        self._store: StorePolicy | None = None
        self._level = "info"
        self._keeper: Keeper | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._pause = SOONEST
        self._opened = asyncio.Event()
        self._up = False
        self._changing = asyncio.Lock()

    def rate(self, feedback: Feedback) -> None:
        """Keep a feedback, which finds its request in the store."""
        self._feedback.put(feedback_row(feedback))

    def trip(self, brake: Brake) -> None:
        """Stop an agent's fine-tune, here at once and for all proxies of the store; remembered there."""
        self._braking.trip(brake)
        self._send(MAX_BATCH)

    def clear(self, agent: str, actor: str) -> None:
        """Take an agent's brake back: `actor` says so."""
        self._braking.clear(agent, time.time(), actor)
        self._send(MAX_BATCH)

    def send(self) -> None:
        """Send what has gathered, called now and then; while the writer is at an earlier batch, whole ones only."""
        self._packer.close()
        self._send(MAX_BATCH if self._sent else 1)

    def _send(self, least: int) -> None:
        """Send batches of `least` records or ratings, and brakes at once."""
        keeper, records, feedback, braking = self._keeper, self._records, self._feedback, self._braking
        while (
            keeper is not None
            and len(self._sent) < WINDOW
            and (len(records) >= least or len(feedback) >= least or len(braking))
        ):
            self._batches += 1
            name = f"{self._proxy}-{self._batches}"
            blocks, rows = records.take(MAX_BATCH)
            rated, ratings = feedback.take(MAX_BATCH)
            commands = braking.take()
            batch = (name, blocks, rated, commands)
            self._sent[name] = _Sent(batch, rows, ratings, commands)
            keeper.send(batch)
        if keeper is not None and records.queued > HURRY_AT:
            keeper.hurry()

    async def follow(self, store: StorePolicy, level: str) -> None:
        """Keep records in `store` from now on, and wait a little for it to open; `level` is its log's."""
        async with self._changing:
            if store == self._store:
                return
            await self._end()
            self._braking.move()
            self.standing = None
            self._store, self._level = store, level
            if store.url is None:
                return
            self._opened.clear()
            await self._start()
            try:
                async with asyncio.timeout(OPEN_WITHIN):
                    await self._opened.wait()
            except TimeoutError:
                log.warning("the store does not open; requests are served, records are held")

    async def stop(self) -> None:
        """Write what is left, within a few seconds."""
        async with self._changing:
            await self._end()
            self._store = None
        if left := self._records.queued:
            log.error("%d records were not written", left)

    def collect(self) -> Iterator[Metric]:
        """Enqueued is written, dropped and queued, at every moment."""
        self._packer.close()
        records, rated = self._records, self._feedback
        for name, text, count in (
            ("enqueued", "Records handed to the ledger.", records.enqueued),
            ("written", "Records in the store.", records.written),
            ("dropped", "Records that are lost: no room, or refused by the store.", records.dropped),
            ("rejected", "Records among the dropped that the store refused, and keeps aside.", records.lost),
        ):
            yield CounterMetricFamily(f"splitlane_ledger_{name}", text, value=count)
        yield GaugeMetricFamily("splitlane_ledger_queued", "Records that wait to be written.", value=records.queued)
        yield GaugeMetricFamily("splitlane_ledger_queued_bytes", "Their size.", value=records.size)
        feedback = CounterMetricFamily("splitlane_feedback", "Feedback by what became of it.", labels=["outcome"])
        feedback.add_metric(["accepted"], rated.enqueued - rated.refused)
        feedback.add_metric(["dropped"], rated.dropped)
        feedback.add_metric(["joined"], self._joined)
        feedback.add_metric(["unknown"], self._unknown)
        yield feedback
        yield GaugeMetricFamily("splitlane_ledger_up", "1: the store takes what it is given.", value=self._up)

    async def _start(self) -> None:
        store = self._store
        assert store is not None
        keeper = Keeper(self._hear, self._when_ended)
        try:
            await keeper.start(self._loop)
        except OSError as error:
            log.error("the ledger's writer does not start: %s", error)  # noqa: TRY400 a machine without room
            self._again()
            return
        self._keeper = keeper
        keeper.send((store.url, store.retention, store.unit_key, self._proxy, self._level))
        for batch, *_ in self._sent.values():
            keeper.send(batch)

    async def _end(self) -> None:
        """Send all there is, and end the writer."""
        self._packer.close()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        late = self._loop.time() + (CLOSE_WITHIN if self._up else HOPELESS)
        while self._keeper is not None and self._left and self._loop.time() < late:
            self._send(1)
            await asyncio.sleep(0.005)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.end(max(HOPELESS, late - self._loop.time()))
        self._up = False

    @property
    def _left(self) -> int:
        return self._records.queued + self._feedback.queued + self._braking.left

    def _when_ended(self, keeper: Keeper) -> None:
        if keeper is self._keeper:
            log.error("the ledger's writer has ended; another one is started")
            self._keeper = None
            self._up = False
            self._again()

    def _again(self) -> None:
        self._restart = self._loop.call_later(self._pause, lambda: spawn(self._revive(), "ledger"))
        self._pause = min(self._pause * 2, LATEST)

    async def _revive(self) -> None:
        async with self._changing:
            if self._keeper is None and self._store is not None and self._store.url is not None:
                await self._start()

    def _hear(self, message: Message) -> None:
        match message:
            case ("written", str(name), int(rows), int(feedback)):
                self._up = True
                if name in self._sent:  # not reported by a predecessor
                    _, sent, rated, commands = self._sent.pop(name)
                    self._braking.written(commands)
                    self._records.written += rows
                    self._records.lost += sent - rows
                    self._feedback.written += feedback
                    self._feedback.lost += rated - feedback
                self._send(MAX_BATCH)
            case ("spent", dict(spent)):
                self._on_spent(spent)
            case ("braked", list(brakes)):
                found = map(Brake._make, brakes)
                self._braking.listed({brake.agent: brake for brake in found})
            case ("joined", int(joined), int(unknown)):
                self._joined += joined
                self._unknown += unknown
            case ("stands", dict(holds), dict(moves), dict(p_values)):
                self.standing = Standing(holds, moves, p_values)
            case ("opened", bytes(key)):
                self._up = True
                self._pause = SOONEST
                self._on_key(key)
                self._opened.set()
            case ("away",):
                self._up = False

"""The one thread that writes: takes rows from the queue, batch after batch, for as long as it takes.

- A batch is forgotten only when it is committed, or every row left of it is known to be refused.
- While the store is away the batch is sent again, later and later; the queue bounds what gathers.
- Between batches, and only then: feedback, what others have spent, and what is too old.
"""

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping

from proxy.ledger import statements
from proxy.ledger.batch import Batch, prepare, write
from proxy.ledger.database import Database, DatabaseUnavailable, RowRejected
from proxy.ledger.feedback import join, keep
from proxy.ledger.migrate import migrate
from proxy.ledger.open import open_database, set_aside_if_corrupt, sqlite_path
from proxy.ledger.queue import Waiting
from proxy.ledger.retention import Step, forget, steps
from proxy.ledger.unit_key import MAX_KEY, key_beside
from proxy.policy.snapshot import StorePolicy

log = logging.getLogger("splitlane.ledger")

# Rows in a batch: some 30 ms of work.
MAX_BATCH = 2000
# Seconds between two looks at an empty queue: what a process that is killed loses, and one batch.
POLL = 0.1
# Seconds before a store that was away is tried again: at first, and at most.
SOONEST, LATEST = 0.1, 5.0
# Seconds between two looks at what others have spent, and between two rounds of forgetting.
LOOK_EVERY = 1.0
FORGET_EVERY = 60.0
# The lowest priority there is.
NICE = 19
# An outage that lasts is told again after so many seconds.
TELL_EVERY = 60.0

Spent = Mapping[tuple[int, str], float]  # US dollars by Unix hour and agent


def give_way() -> None:
    """Let this thread run when no other wants to: where there is one core, requests come first, and the queue holds."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class Writer:
    """Owns the thread and the connection."""

    def __init__(
        self, policy: StorePolicy, waiting: Waiting, on_open: Callable[[bytes], None], on_spent: Callable[[Spent], None]
    ) -> None:
        """`on_open` gets the key that hashes users, `on_spent` what others spent today: both on the thread."""
        assert policy.url is not None
        self._policy = policy
        self._url = policy.url
        self._waiting = waiting
        self._queue = waiting.records
        self._feedback: list[bytes] = []  # taken, and not committed
        self._on_open = on_open
        self._on_spent = on_spent
        self.up = False  # whether the store took what it was last given
        self._proxy = secrets.token_hex(8)  # this life of this process
        self._batches = 0
        self._batch: Batch | None = None  # taken from the queue, and not committed
        self._database: Database | None = None
        self._forgetting: list[Step] = []
        self._forget_at = 0.0
        self._look_at = 0.0
        self._told_at = 0.0  # 0: not since the store was last well
        self._closing = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self, within: float) -> None:
        """Write what is left, for at most `within` seconds.  Blocks; what remains stays in the queue."""
        self._deadline = time.monotonic() + within
        self._closing.set()
        self._thread.join(within + POLL)

    def _run(self) -> None:
        give_way()
        pause = SOONEST
        while not self._finished():
            try:
                database = self._database or self._open()
                idle = self._step(database)
            except DatabaseUnavailable as error:
                self._let_go()
                self._tell(error)
            except Exception:
                self._let_go()
                log.exception("the ledger's writer failed; it goes on")
            else:
                pause = SOONEST
                if idle:
                    self._closing.wait(POLL)
                continue
            if self._closing.wait(pause):
                time.sleep(POLL)
            pause = min(pause * 2, LATEST)
        self._let_go()

    def _finished(self) -> bool:
        """Whether there is nothing more to write, or no more time for it."""
        if not self._closing.is_set():
            return False
        left = self._batch is not None or len(self._queue) or self._feedback or len(self._waiting.feedback)
        return time.monotonic() >= self._deadline or not left

    def _open(self) -> Database:
        path = sqlite_path(self._url)
        key = self._policy.unit_key
        if key is None:
            assert path is not None, "a policy with a server has a key"
            key = key_beside(path)
        database = open_database(self._url)
        try:
            migrate(database)
            prepare(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        self._look_at = 0.0
        self._look(database)
        self._on_open(key[:MAX_KEY])
        return database

    def _step(self, database: Database) -> bool:
        """Write a batch, or see to one of the rest; whether there was nothing to do."""
        batch = self._batch
        if batch is None and (rows := self._queue.take(MAX_BATCH)):
            self._batches += 1
            batch = self._batch = Batch(f"{self._proxy}-{self._batches}", rows)
        if batch is not None:
            kept = write(database, batch, self._proxy, time.time())
            self._batch = None
            self._queue.written += kept
            self._queue.lost += len(batch.rows) - kept
        self._keep_feedback(database)
        self._well()
        self._look(database)
        return not self._forget(database) and len(self._queue) < MAX_BATCH

    def _keep_feedback(self, database: Database) -> None:
        queue = self._waiting.feedback
        self._feedback = self._feedback or queue.take(MAX_BATCH)
        if not self._feedback:
            return
        try:
            with database.transaction():
                keep(database, self._feedback)
            queue.written += len(self._feedback)
        except RowRejected:
            for row in self._feedback:
                try:
                    with database.transaction():
                        keep(database, [row])
                    queue.written += 1
                except RowRejected as rejection:
                    queue.lost += 1
                    log.warning("the store refused a feedback: %s", rejection)
        self._feedback = []

    def _look(self, database: Database) -> None:
        """Every second: is the store still where it was, what did others spend, whose requests have come."""
        now = time.time()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        if database.lost:
            raise DatabaseUnavailable(f"{sqlite_path(self._url)} was moved or deleted")
        today = int(now // 86400) * 24
        rows = database.execute(statements.OTHERS_SPEND, (today, self._proxy))
        with database.transaction():
            joined = join(database, now)
        self._waiting.joined += joined.joined
        self._waiting.unknown += joined.unknown
        self._on_spent({(int(hour), agent): float(cost) for hour, agent, cost in rows})

    def _forget(self, database: Database) -> bool:
        """One small step of retention; whether there is more to it."""
        now = time.time()
        if self._forgetting:
            if not forget(database, self._forgetting[0]):
                self._forgetting.pop(0)
        elif now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            self._forgetting = steps(now, self._policy.retention)
        return bool(self._forgetting)

    def _well(self) -> None:
        self.up = True
        if self._told_at:
            self._told_at = 0.0
            log.info("the store can be used again")

    def _tell(self, error: DatabaseUnavailable) -> None:
        self.up = False
        now = time.monotonic()
        if not self._told_at or now - self._told_at >= TELL_EVERY:
            self._told_at = now
            log.error("the store cannot be used, records are held (%d now): %s", self._queue.queued, error)
        try:
            set_aside_if_corrupt(self._url, error)
        except DatabaseUnavailable as further:
            log.error("the store cannot be replaced: %s", further)  # noqa: TRY400 the message is all there is to say

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

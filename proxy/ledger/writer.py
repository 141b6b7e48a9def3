"""Writes batches, one after the other, for as long as it takes.

- A batch is reported as written only when it is committed, or all that is left of it is known to be
  refused.
- While the store is away the batch is tried again, later and later; who sends bounds what gathers.
- Between batches, and only then: joining feedback, what others have spent and braked, and what is too old.
"""

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from proxy.ledger import statements
from proxy.ledger.batch import Batch, Kept, prepare, write
from proxy.ledger.brakes import tripped
from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.feedback import Joined, join
from proxy.ledger.migrate import migrate
from proxy.ledger.open import open_database, set_aside_if_corrupt, sqlite_path
from proxy.ledger.retention import Step, forget, steps
from proxy.ledger.standing import Standing, standing
from proxy.ledger.thresholds import freeze
from proxy.ledger.unit_key import MAX_KEY, key_beside
from proxy.policy.snapshot import StorePolicy
from proxy.words import Brake

log = logging.getLogger("splitlane.ledger")

# Seconds between two looks at what else there is to do, when nothing comes.
POLL = 0.1
# Seconds before a store that was away is tried again: at first, and at most.
SOONEST, LATEST = 0.1, 5.0
# Seconds between two looks at what others have spent, and between two rounds of forgetting.
LOOK_EVERY = 1.0
FORGET_EVERY = 60.0
# And between two looks for a stage that has begun.
FREEZE_EVERY = 10.0
# And between two looks at how rollouts stand.
STANDING_EVERY = 10.0
# Seconds to write what is left when no more will come.
CLOSE_WITHIN = 3.0
# An outage that lasts is told again after so many seconds.
TELL_EVERY = 60.0

Spent = Mapping[tuple[int, str], float]  # US dollars by Unix hour and agent


class Source(Protocol):
    """Where batches come from."""

    @property
    def ended(self) -> bool:
        """Whether no more will come than has come."""

    def take(self) -> Batch | None:
        """The oldest batch that has come; None: none has."""

    def wait(self, seconds: float) -> None:
        """Until one comes, or none will any more; at most so long."""

    def rest(self, seconds: float) -> None:
        """So long, or until no more will come."""


class Told(Protocol):
    """Who hears how it goes."""

    def opened(self, key: bytes) -> None:
        """The store is open; `key` hashes users."""

    def written(self, batch: Batch, kept: Kept) -> None:
        """The batch is in the store, as much of it as ever will be."""

    def spent(self, spent: Spent) -> None:
        """What other processes, earlier lives of this one included, spent today."""

    def joined(self, joined: Joined) -> None:
        """What has become of feedback."""

    def braked(self, brakes: dict[str, Brake]) -> None:
        """The brakes in force, by agent, with all that was reported as written."""

    def stands(self, standing: Standing) -> None:
        """How rollouts stand."""

    def away(self) -> None:
        """The store cannot be used now."""


class Writer:
    """Owns the connection."""

    def __init__(self, policy: StorePolicy, proxy: str, source: Source, told: Told) -> None:
        """`proxy` names this life of this process."""
        assert policy.url is not None
        self._policy = policy
        self._url = policy.url
        self._proxy = proxy
        self._source = source
        self._told = told
        self._batch: Batch | None = None  # taken, and not committed
        self._database: Database | None = None
        self._forgetting: list[Step] = []
        self._forget_at = 0.0
        self._look_at = 0.0
        self._freeze_at = 0.0
        self._standing_at = 0.0
        self._complained_at = 0.0  # 0: not since the store was last well
        self._deadline = 0.0  # 0: there is no hurry

    def run(self) -> None:
        """Write until the source has ended; blocks."""
        pause = SOONEST
        while not self._finished():
            try:
                database = self._database or self._open()
                idle = self._step(database)
            except DatabaseUnavailable as error:
                self._let_go()
                self._complain(error)
            except Exception:
                self._let_go()
                log.exception("the ledger's writer failed; it goes on")
            else:
                pause = SOONEST
                if idle:
                    self._source.wait(POLL)
                continue
            if self._deadline:
                time.sleep(POLL)
            else:
                self._source.rest(pause)
            pause = min(pause * 2, LATEST)
        self._let_go()

    def _finished(self) -> bool:
        """Whether there is nothing more to write, or no more time for it."""
        if not self._source.ended:
            return False
        now = time.monotonic()
        self._deadline = self._deadline or now + CLOSE_WITHIN
        if self._batch is None:
            self._batch = self._source.take()
        return self._batch is None or now >= self._deadline

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
        self._look_at = self._standing_at = 0.0
        self._look(database)
        self._tell_standing(database)
        self._told.opened(key[:MAX_KEY])
        return database

    def _step(self, database: Database) -> bool:
        """Write a batch, or see to the rest; whether there was nothing to do."""
        batch = self._batch or self._source.take()
        if batch is not None:
            self._batch = batch
            kept = write(database, batch, self._proxy, time.time())
            self._batch = None
            self._told.written(batch, kept)
        if self._complained_at:
            self._complained_at = 0.0
            log.info("the store can be used again")
        self._look(database)
        self._tell_standing(database)
        self._freeze(database)
        return not self._forget(database) and batch is None

    def _look(self, database: Database) -> None:
        """Every second: is the store still where it was, what did others spend and brake, whose requests have come."""
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
        self._told.braked(tripped(database))
        self._told.joined(joined)
        self._told.spent({(int(hour), agent): float(cost) for hour, agent, cost in rows})

    def _tell_standing(self, database: Database) -> None:
        now = time.time()
        if now >= self._standing_at:
            self._standing_at = now + STANDING_EVERY
            self._told.stands(standing(database))

    def _freeze(self, database: Database) -> None:
        """Every now and then a stage; where there was one, there may be more."""
        now = time.time()
        if now >= self._freeze_at and not freeze(database, now):
            self._freeze_at = now + FREEZE_EVERY

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

    def _complain(self, error: DatabaseUnavailable) -> None:
        self._told.away()
        now = time.monotonic()
        if not self._complained_at or now - self._complained_at >= TELL_EVERY:
            self._complained_at = now
            log.error("the store cannot be used, records are held: %s", error)
        try:
            set_aside_if_corrupt(self._url, error)
        except DatabaseUnavailable as further:
            log.error("the store cannot be replaced: %s", further)  # noqa: TRY400 the message is all there is to say

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

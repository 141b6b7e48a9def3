"""A crowd drawn from users that came: whole users with all their requests, as they were recorded.

A bootstrap by user keeps what no assumption has: who comes back, how alike a user's requests are, how
heavy the heavy ones are, the hours of the day.  A ramp longer than the record goes through it again.
"""

from typing import NamedTuple

import numpy as np

from proxy.experiment.simulate.requests import Flags, Floats, Requests, Whole
from proxy.ledger.database import Database

BUCKETS = 10_000
DAY = 86_400
MOST_REQUESTS = 1_000_000  # the newest: 50 MB of arrays, a second to read
FEWEST_USERS = 50  # fewer, drawn again and again, are no crowd


class TooLittleRecorded(Exception):  # noqa: N818 not a fault
    """The store has not enough of the baseline's requests to draw from."""


class Record(NamedTuple):
    """Requests of the baseline arm, by user and time; arrays of one length but for `begins`."""

    begins: Whole  # by user: the place of the first request; one more at the end
    time: Floats  # seconds since the record's first midnight
    failed: Flags
    latency: Floats
    cost: Floats
    days: int  # that the record covers
    users_per_day: float  # distinct ones, mean

    @property
    def users(self) -> int:
        """Distinct ones."""
        return len(self.begins) - 1


_REQUESTS = (
    "SELECT unit, time, CASE WHEN failure = '' THEN 0 ELSE 1 END, latency, cost FROM requests"
    " WHERE route = 'chat' AND agent = ? AND assignment = 'baseline' AND unit <> '' AND time >= ?"
    " ORDER BY time DESC LIMIT ?"
)


def read_record(database: Database, agent: str, since: float) -> Record:
    """The agent's compared requests on the baseline since then.  Raises DatabaseUnavailable, TooLittleRecorded."""
    rows = database.execute(_REQUESTS, (agent, since, MOST_REQUESTS))
    units = np.array([row[0] for row in rows])
    numbers = np.array([row[1:] for row in rows], np.float64).reshape(-1, 4)
    user, count = np.unique(units, return_inverse=True, return_counts=True)[1:] if rows else (units, units)
    if len(count) < FEWEST_USERS:
        raise TooLittleRecorded(
            f"{agent} has {len(count)} users on the baseline in that time; {FEWEST_USERS} are needed to draw from"
        )
    order = np.lexsort((numbers[:, 0], user))
    time, failed, latency, cost = numbers[order].T
    time = time - time.min() // DAY * DAY
    days = int(time.max() // DAY) + 1
    visits = len(np.unique(user[order] * days + (time // DAY).astype(np.int64)))
    return Record(np.concatenate([[0], np.cumsum(count)]), time, failed > 0, latency, cost, days, visits / days)


class RecordedCrowd:
    """Implements `Crowd`: users drawn from a record, with repetition."""

    def __init__(self, rng: np.random.Generator, record: Record, people: int, looks: int) -> None:
        drawn = rng.integers(record.users, size=people)
        self._record, self._looks = record, looks
        self.buckets: Whole = rng.integers(BUCKETS, size=people)
        lengths = record.begins[drawn + 1] - record.begins[drawn]
        first = np.cumsum(lengths) - lengths
        place = np.repeat(record.begins[drawn] - first, lengths) + np.arange(lengths.sum())
        person = np.repeat(np.arange(people), lengths)
        self.failing = float(record.failed[place].mean())
        slots = record.days * looks
        slot = np.minimum((record.time[place] * looks // DAY).astype(np.int64), slots - 1)
        order = np.argsort(slot, kind="stable")
        self._person, self._place = person[order], place[order]
        self._ends = np.searchsorted(slot[order], np.arange(slots + 1))

    def requests(self, day: int, look: int) -> Requests:
        """See `Crowd`."""
        slot = day % self._record.days * self._looks + look
        among = slice(self._ends[slot], self._ends[slot + 1])
        place, record = self._place[among], self._record
        return Requests(self._person[among], record.failed[place], record.latency[place], record.cost[place])

"""Evidence of ramps, made up: users of very different size and luck, in the buckets of one or more stages."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from proxy.experiment.evidence import BucketSums, Evidence, Exposed, Stage, Thresholds

DAY = 86400.0
NOW = 1_800_000_000.0
BUCKETS = 10_000
THRESHOLDS = Thresholds(2.0, 10.0, 0.1, NOW - 3 * DAY)

Column = npt.NDArray[np.float64]


class Day(NamedTuple):
    """Sums by bucket."""

    requests: Column
    failures: Column
    slow: Column
    latency: Column

    def plus(self, other: "Day") -> "Day":
        return Day(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Traffic:
    """Users with a bucket, a number of requests a day, and a failure rate of their own."""

    def __init__(
        self, seed: int, users: int, *, per_day: float = 3.0, failing: float = 0.04, spread: float = 10.0
    ) -> None:
        """Failure rates are beta with mean `failing`; the smaller `spread`, the more they are a matter of the user."""
        self.random = np.random.default_rng(seed)
        self.bucket = self.random.integers(0, BUCKETS, users)
        self.rate = per_day * self.random.lognormal(-0.5, 1.0, users)  # mean `per_day`; a few are heavy
        self.failing = self.random.beta(spread * failing, spread * (1 - failing), users)

    def day(self, percentage: float, days: float = 1.0, *, harm: float = 0.0, worse: float = 0.0) -> Day:
        """`harm` is added to the treated failure rate, `worse` to everybody's."""
        treated = self.bucket < percentage * 100
        requests = self.random.poisson(self.rate * days)
        failures = self.random.binomial(requests, np.clip(self.failing + worse + harm * treated, 0, 1))
        slow = self.random.binomial(requests, 0.05)
        latency = self.random.gamma(4.0 * np.maximum(requests, 1), 0.2) * (requests > 0)
        return Day(*(self._by_bucket(column) for column in (requests, failures, slow, latency)))

    def _by_bucket(self, column: npt.NDArray[Any]) -> Column:
        return np.bincount(self.bucket, weights=column, minlength=BUCKETS).astype(np.float64)


def stage(percentage: float, sums: Day) -> Stage:
    """What a day, or several, look like in the store; the fine-tune costs half."""
    rows = []
    seen = np.flatnonzero(sums.requests)
    for bucket, n, failures, slow, latency in zip(
        seen.tolist(), *(column[seen].tolist() for column in sums), strict=True
    ):
        requests, ok = int(n), int(n - failures)
        treated = bucket < percentage * 100
        cost = n * (0.001 if treated else 0.002)
        rows.append(BucketSums(bucket, treated, requests, ok, ok, 0, int(slow), latency, cost, 0, 0.0))
    return Stage(percentage, tuple(rows))


def evidence(*stages: Stage, **changes: Any) -> Evidence:
    """A healthy ramp in its last stage, three days old, unless something is said otherwise."""
    current = stages[-1] if stages else Stage(10.0, ())
    users = (sum(row.treated for row in current.buckets), sum(not row.treated for row in current.buckets))
    values: dict[str, Any] = {
        "agent": "support",
        "salt": "v1",
        "percentage": current.percentage,
        "now": NOW,
        "stages": stages,
        "exposed": (Exposed(current.percentage, *users),),
        "users": users,
        "since": NOW - 3 * DAY,
        "newest": NOW - 60,
        "newest_of_any": NOW - 5,
        "missing_users": 0.01,
        "thresholds": THRESHOLDS,
        "brake": None,
        "hold": None,
        "p_values": {},
    }
    return Evidence(**{**values, **changes})

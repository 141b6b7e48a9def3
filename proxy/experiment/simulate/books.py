"""The sums by bucket and stage that a ramp leaves, as the store keeps them; in arrays, and as evidence."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from proxy.experiment.evidence import BucketSums, Evidence, Exposed, Stage, Thresholds
from proxy.experiment.simulate.requests import Answers, Flags, Floats, Requests, Whole

# The rows of a stage's sums.
ROWS = 7
REQUESTS, FAILED, FIRST_FAILED, RESCUED, SLOW, LATENCY, COST = range(ROWS)


class StageSums(NamedTuple):
    """One percentage.  `sums` has a row for each of the above and a column for each bucket that has people."""

    percentage: float
    finetuned: int  # columns; the first ones
    sums: Floats


def thresholds_of(requests: Requests, now: float = 0.0) -> Thresholds:
    """Frozen from the baseline's requests: its p95, and the p99.5 that tails are capped at."""
    tau, latency_cap = np.quantile(requests.latency, (0.95, 0.995))
    return Thresholds(float(tau), float(latency_cap), float(np.quantile(requests.cost, 0.995)), now)


class Books:
    """Everything a verdict needs of one ramp's traffic."""

    def __init__(self, buckets: Whole, thresholds: Thresholds) -> None:
        self.buckets, self._column = np.unique(buckets, return_inverse=True)  # by column; and by person
        self.thresholds = thresholds
        self.stages: list[StageSums] = []
        self.exposed: list[tuple[int, int]] = []  # people first seen in a stage: fine-tuned, baseline
        self.finetuned: Flags = np.zeros(len(buckets), bool)  # by person, in this stage
        self._met: Flags = np.zeros(len(buckets), bool)  # in any stage
        self._here: Flags = np.zeros(len(buckets), bool)  # in this one
        self._tried: Flags = np.zeros(len(buckets), bool)  # the fine-tune, in any stage

    def begin(self, percentage: float) -> None:
        """A stage."""
        columns = int(np.searchsorted(self.buckets, round(percentage * 100)))
        self.stages.append(StageSums(percentage, columns, np.zeros((ROWS, len(self.buckets)))))
        self.exposed.append((0, 0))
        self.finetuned = self._column < columns
        self._here[:] = False

    @property
    def users(self) -> tuple[int, int]:
        """Distinct people in this stage: fine-tuned, baseline."""
        finetuned = int(np.count_nonzero(self._here & self.finetuned))
        return finetuned, int(np.count_nonzero(self._here)) - finetuned

    @property
    def tried(self) -> int:
        """Distinct people who were on the fine-tune in any stage."""
        return int(np.count_nonzero(self._tried))

    def add(self, answers: Answers) -> None:
        """The requests since the last look."""
        person, ok, first_ok, rescued, latency, cost = answers
        column, sums = self._column[person], self.stages[-1].sums
        size = len(self.buckets)
        sums[REQUESTS] += np.bincount(column, minlength=size)
        for row, hits in ((FAILED, ~ok), (FIRST_FAILED, ~first_ok), (RESCUED, rescued)):
            sums[row] += np.bincount(column[hits], minlength=size)
        sums[SLOW] += np.bincount(column[latency > self.thresholds.tau], minlength=size)
        sums[LATENCY] += np.bincount(column, np.minimum(latency, self.thresholds.latency_cap), size)
        sums[COST] += np.bincount(column, np.minimum(cost, self.thresholds.cost_cap), size)
        self._meet(person)

    def _meet(self, person: Whole) -> None:
        now = np.zeros(len(self._column), bool)
        now[person] = True
        fresh = now & ~self._met
        finetuned, baseline = self.exposed[-1]
        new = int(np.count_nonzero(fresh & self.finetuned))
        self.exposed[-1] = finetuned + new, baseline + int(np.count_nonzero(fresh)) - new
        self._met |= now
        self._here |= now
        self._tried |= now & self.finetuned


def stage_of(books: Books, stage: StageSums) -> Stage:
    """The stage as the store hands it out: buckets with requests only."""
    columns = np.flatnonzero(stage.sums[REQUESTS])
    requests, failed, first_failed, rescued, slow = stage.sums[:LATENCY, columns].astype(int).tolist()
    latency, cost = stage.sums[LATENCY:, columns].tolist()
    treated = (columns < stage.finetuned).tolist()
    rows = zip(books.buckets[columns].tolist(), treated, requests, failed, first_failed, rescued, slow, latency, cost,
               strict=True)  # fmt: skip
    return Stage(
        stage.percentage,
        tuple(
            BucketSums(bucket, fine, n, n - bad, n - first_bad, saved, late, seconds, dollars, 0, 0.0)
            for bucket, fine, n, bad, first_bad, saved, late, seconds, dollars in rows
        ),
    )


def exposed_of(books: Books) -> tuple[Exposed, ...]:
    """The people of all stages as the store counts them."""
    return tuple(Exposed(stage.percentage, *people) for stage, people in zip(books.stages, books.exposed, strict=True))


def evidence_of(books: Books, age: float, now: float, p_values: Mapping[str, float]) -> Evidence:
    """What the store would have; `age` is the stage's, in seconds, `now` in Unix seconds."""
    return Evidence(
        agent="simulated",
        salt="simulated",
        percentage=books.stages[-1].percentage,
        now=now,
        stages=tuple(stage_of(books, stage) for stage in books.stages),
        exposed=exposed_of(books),
        users=books.users,
        since=now - age,
        newest=now,
        newest_of_any=now,
        missing_users=0.0,
        thresholds=books.thresholds,
        brake=None,
        hold=None,
        p_values=p_values,
    )

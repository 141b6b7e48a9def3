"""The sums by bucket and stage that a ramp leaves, as the store keeps them; in arrays, and as evidence."""

from typing import NamedTuple

import numpy as np

from proxy.experiment.evidence import BucketSums, Exposed, Stage, Thresholds
from proxy.experiment.simulate.requests import Answers, Flags, Floats, Requests, Whole

BUCKETS = 10_000
# The rows of a stage's sums.
ROWS = 7
REQUESTS, FAILED, FIRST_FAILED, RESCUED, SLOW, LATENCY, COST = range(ROWS)


class StageSums(NamedTuple):
    """One percentage.  `sums` has a row for each of the above and a column for each bucket."""

    percentage: float
    threshold: int  # buckets below it are fine-tuned
    sums: Floats


def thresholds_of(requests: Requests, now: float = 0.0) -> Thresholds:
    """Frozen from the baseline's requests: its p95, and the p99.5 that tails are capped at."""
    tau, latency_cap = np.quantile(requests.latency, (0.95, 0.995))
    return Thresholds(float(tau), float(latency_cap), float(np.quantile(requests.cost, 0.995)), now)


class Books:
    """Everything a verdict needs of one ramp's traffic."""

    def __init__(self, buckets: Whole, thresholds: Thresholds) -> None:
        self._buckets = buckets  # by person
        self.thresholds = thresholds
        self.stages: list[StageSums] = []
        self.exposed: list[tuple[int, int]] = []  # people first seen in a stage: fine-tuned, baseline
        self.finetuned: Flags = np.zeros(len(buckets), bool)  # by person, in this stage
        self._met: Flags = np.zeros(len(buckets), bool)  # in any stage
        self._here: Flags = np.zeros(len(buckets), bool)  # in this one
        self._tried: Flags = np.zeros(len(buckets), bool)  # the fine-tune, in any stage

    def begin(self, percentage: float) -> None:
        """A stage."""
        threshold = round(percentage * 100)
        self.stages.append(StageSums(percentage, threshold, np.zeros((ROWS, BUCKETS))))
        self.exposed.append((0, 0))
        self.finetuned = self._buckets < threshold
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
        bucket, sums = self._buckets[person], self.stages[-1].sums
        sums[REQUESTS] += np.bincount(bucket, minlength=BUCKETS)
        for row, hits in ((FAILED, ~ok), (FIRST_FAILED, ~first_ok), (RESCUED, rescued)):
            sums[row] += np.bincount(bucket[hits], minlength=BUCKETS)
        sums[SLOW] += np.bincount(bucket[latency > self.thresholds.tau], minlength=BUCKETS)
        sums[LATENCY] += np.bincount(bucket, np.minimum(latency, self.thresholds.latency_cap), BUCKETS)
        sums[COST] += np.bincount(bucket, np.minimum(cost, self.thresholds.cost_cap), BUCKETS)
        self._meet(person)

    def _meet(self, person: Whole) -> None:
        now = np.zeros(len(self._buckets), bool)
        now[person] = True
        fresh = now & ~self._met
        finetuned, baseline = self.exposed[-1]
        new = int(np.count_nonzero(fresh & self.finetuned))
        self.exposed[-1] = finetuned + new, baseline + int(np.count_nonzero(fresh)) - new
        self._met |= now
        self._here |= now
        self._tried |= now & self.finetuned


def stage_of(stage: StageSums) -> Stage:
    """The stage as the store hands it out: buckets with requests only."""
    sums = stage.sums
    return Stage(
        stage.percentage,
        tuple(
            BucketSums(
                bucket=int(bucket),
                treated=bool(bucket < stage.threshold),
                requests=int(sums[REQUESTS, bucket]),
                ok=int(sums[REQUESTS, bucket] - sums[FAILED, bucket]),
                first_ok=int(sums[REQUESTS, bucket] - sums[FIRST_FAILED, bucket]),
                fallbacks=int(sums[RESCUED, bucket]),
                slow=int(sums[SLOW, bucket]),
                latency=float(sums[LATENCY, bucket]),
                cost=float(sums[COST, bucket]),
                rated=0,
                score=0.0,
            )
            for bucket in np.flatnonzero(sums[REQUESTS])
        ),
    )


def exposed_of(books: Books) -> tuple[Exposed, ...]:
    """The people of all stages as the store counts them."""
    return tuple(Exposed(stage.percentage, *people) for stage, people in zip(books.stages, books.exposed, strict=True))

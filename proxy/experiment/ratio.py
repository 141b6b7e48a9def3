"""A rate of one arm: the ratio of two sums, with a variance that knows its requests come in clusters (STATISTICS.md A).

Requests of one user are alike, so the bucket is what is independent.  The variance is the delta method's,
linearised residuals per bucket.  Source: A. Deng, U. Knoblich, J. Lu, "Applying the delta method in metric
analytics", KDD 2018; W. G. Cochran, "Sampling Techniques", 3rd ed., ch. 6.  Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Arm(NamedTuple):
    """One metric of one arm in one stage, by bucket; N > 0 in each.  Three columns of one length."""

    buckets: Sequence[int]
    y: Sequence[float]  # the numerator's sums: failures, seconds, dollars, …
    n: Sequence[float]  # the denominator's: requests, or ratings


class Moments(NamedTuple):
    """Sums over the k buckets of one arm, Y and N being each bucket's own sums."""

    k: int
    y: float
    n: float
    yy: float
    nn: float
    yn: float

    @property
    def ratio(self) -> float:
        """Y over N; there must be some N."""
        return self.y / self.n

    def variance(self, ratio: float | None = None) -> float:
        """Of the ratio, with residuals from `ratio` where a test has one; infinite for one bucket."""
        if self.k < 2:
            return float("inf")
        r = self.ratio if ratio is None else ratio
        squares = max(0.0, self.yy - 2.0 * r * self.yn + r * r * self.nn)
        return self.k / (self.k - 1) * squares / (self.n * self.n)


def moments(pairs: Iterable[tuple[float, float]]) -> Moments:
    """The sums of (Y, N), one pair per bucket."""
    k, sy, sn, yy, nn, yn = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for y, n in pairs:
        k += 1
        sy += y
        sn += n
        yy += y * y
        nn += n * n
        yn += y * n
    return Moments(k, sy, sn, yy, nn, yn)


def by_bucket(arms: Iterable[Arm]) -> dict[int, tuple[float, float]]:
    """One arm's (Y, N) per bucket over several stages."""
    sums: dict[int, tuple[float, float]] = {}
    for arm in arms:
        for bucket, y, n in zip(arm.buckets, arm.y, arm.n, strict=True):
            before = sums.get(bucket)
            sums[bucket] = (y, n) if before is None else (before[0] + y, before[1] + n)
    return sums


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much the treated arm's ratio exceeds a fixed level, over all stages."""

    estimate: float  # ratio − level
    clusters: int
    arms: tuple[int, int]  # treated buckets, and 0
    treated: float  # the ratio
    control: None
    weights: tuple[float, ...]  # N by stage
    level: float
    sums: Moments

    def variance(self, null: float | None = None) -> float:
        """Of the estimate; with residuals under an excess of `null` where it is given."""
        return self.sums.variance(None if null is None else self.level + null)


def excess(treated: Sequence[Arm], level: float) -> Excess | None:
    """A treated arm against a level; `treated` has one entry per stage.  None without data."""
    sums = moments(by_bucket(treated).values())
    if not sums.n:
        return None
    weights = tuple(float(sum(arm.n)) for arm in treated)
    return Excess(sums.ratio - level, sums.k, (sums.k, 0), sums.ratio, None, weights, level, sums)

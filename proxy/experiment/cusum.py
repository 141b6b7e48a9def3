"""The brake's evidence: a CUSUM of the fine-tune's first-attempt failures (STATISTICS.md G).  Pure.

It asks after every request how much likelier the latest ones are at an outage's failure rate p1 than at a
rate p0 that is still normal.  Unlike an interval it forgets: what was good last week does not make up for
an outage now.  Source: E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954).
"""

from math import log

_LEAST = 1e-6  # p0 where neither the floor nor the baseline gives one: the ratio of rates needs a rate
_WORST = 0.5  # p1 is at most this


def rates(baseline_failures: float, baseline_calls: float, floor: float) -> tuple[float, float]:
    """Failure rates that are normal, p0, and an outage's, p1: shares of first attempts.

    p0 is twice the baseline's own rate and at least `floor`, a share; p1 is four times p0 and at most one half.
    Counts may be decayed ones.  p0 ≥ p1 where the baseline is about as dead: then nothing is evidence.
    """
    rate = baseline_failures / baseline_calls if baseline_calls > 0 else 0.0
    p0 = max(floor, 2.0 * rate, _LEAST)
    return p0, min(_WORST, 4.0 * p0)


def threshold(odds: float) -> float:
    """The total at which the brake trips: evidence of `odds` to one, as a natural logarithm."""
    return log(odds)


class Cusum:
    """The evidence of one agent so far, in nats; 0 is none."""

    __slots__ = ("total",)

    def __init__(self, total: float = 0.0) -> None:
        self.total = total

    def add(self, failed: bool, p0: float, p1: float) -> float:
        """Count one first attempt and return the new total; `p0` and `p1` are those of `rates`."""
        if p0 >= p1:
            return self.total
        if failed:
            self.total += log(p1 / p0)
        elif self.total > 0.0:
            self.total = max(0.0, self.total + log((1.0 - p1) / (1.0 - p0)))
        return self.total

"""The last five minutes of every agent, from the counters that there are anyway.

A look is kept every half minute, and what has happened since the oldest one is a subtraction: requests
pay nothing for it.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from proxy.telemetry.metrics import LATENCY_BUCKETS, Metrics
from proxy.words import Failure, Variant

EVERY = 30.0
LOOKS = 10
WINDOW = EVERY * LOOKS  # seconds; up to `EVERY` more

# Failures that say nothing about how well the agent is served.
_SPARED = {
    failure.value
    for failure in (
        Failure.AUTH, Failure.BAD_REQUEST, Failure.BUDGET, Failure.CONTENT_FILTER, Failure.CONTEXT_LENGTH,
        Failure.SHUTDOWN,
    )
}  # fmt: skip
# Fallbacks without an attempt of the fine-tune.
_UNTRIED = {Failure.BRAKE.value, Failure.BREAKER_OPEN.value, Failure.BUDGET.value}

_BINS = len(LATENCY_BUCKETS) + 1
_Totals = dict[tuple[str, str], tuple[int, int, int, list[int]]]  # requests, failed, rescued, latencies


class Outcomes(NamedTuple):
    """How the requests of one agent and variant went."""

    requests: int
    failed: int  # … for the user, and not for the user's own sake
    rescued: int  # the fine-tune was asked and failed, and the baseline was asked
    p95: float | None  # seconds, request to last byte; None: no requests


class Recent:
    """Looks at metrics; the event loop's."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._looks: deque[_Totals] = deque([{}], maxlen=LOOKS + 1)
        self._look_at = 0.0

    def look(self, now: float) -> None:
        """Called now and then, with any clock's seconds."""
        if now >= self._look_at:
            if self._look_at:
                self._looks.append(self._totals())
            self._look_at = now + EVERY

    def begin(self) -> None:
        """Tell of what happens from now on."""
        self._looks.clear()
        self._looks.append(self._totals())

    def outcomes(self) -> dict[tuple[str, str], Outcomes]:
        """By agent and assigned variant."""
        before = self._looks[0]
        none = (0, 0, 0, [0] * _BINS)
        found = {}
        for key, (requests, failed, rescued, latencies) in self._totals().items():
            old = before.get(key, none)
            if latencies == old[3]:
                recent = none[3]
            else:
                recent = [max(0, now - then) for now, then in zip(latencies, old[3], strict=True)]
            found[key] = Outcomes(
                max(0, requests - old[0]), max(0, failed - old[1]), max(0, rescued - old[2]), quantile(recent, 0.95)
            )
        return found

    def _totals(self) -> _Totals:
        totals: _Totals = {}
        for (agent, variant, _), series in self._metrics.series():
            counts = series.latency.counts
            requests = sum(counts)
            failed = sum(count for reason, count in series.errors.items() if reason not in _SPARED)
            other = totals.get((agent, variant))
            if other is None:
                totals[agent, variant] = (requests, failed, 0, counts.copy())
            else:
                both = [one + more for one, more in zip(other[3], counts, strict=True)]
                totals[agent, variant] = (other[0] + requests, other[1] + failed, 0, both)
        for (agent, reason), count in self._metrics.fallbacks():
            key = (agent, Variant.FINETUNED.value)
            if reason not in _UNTRIED and key in totals:
                requests, failed, rescued, counts = totals[key]
                totals[key] = (requests, failed, rescued + count, counts)
        return totals


def quantile(counts: list[int], share: float, bounds: Sequence[float] = LATENCY_BUCKETS) -> float | None:
    """The time, in seconds, that a share of the requests stays below; `counts` by bucket.

    Even within a bucket; what is past the last bound is taken to be there.
    """
    total = sum(counts)
    rank = share * total
    lower, below = 0.0, 0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        lower = bound
        below += count
    return bounds[-1] if total else None

"""What each gate measures, as Y over N per bucket, on the harm scale: more is worse.  Pure.

| gate | Y | N | compared |
|---|---|---|---|
| success | failures as the user sees them | requests | difference |
| first_attempt | failures of the assigned model's first attempt | requests | difference |
| fallback_rate | rescued requests | requests | with a ceiling; treated arm only |
| latency_p95 | requests slower than the frozen tau (STATISTICS.md E) | requests | difference |
| latency_mean | seconds, capped | requests | logarithm of the ratio (D) |
| cost | dollars, capped | requests | logarithm of the ratio (D) |
| feedback | what is missing to the best rating | ratings | difference |
"""

from collections.abc import Callable, Iterable, Sequence
from math import log1p
from operator import attrgetter
from typing import NamedTuple

from proxy.experiment.evidence import BucketSums, Stage
from proxy.experiment.ramp import Difference, Stratum, difference
from proxy.experiment.ratio import Arm, Excess, excess
from proxy.policy.config_rollout import CeilingGateConfig, GateConfig, RelativeGateConfig, RiseGateConfig

Effect = Difference | Excess


class Metric(NamedTuple):
    """One gate's metric."""

    gate: str
    scale: str  # points | relative | score
    y: Callable[[BucketSums], float]
    n: Callable[[BucketSums], float]
    event: str = ""  # what Y counts, where it counts requests
    frozen: bool = False  # it needs thresholds
    flipped: bool = False  # people read 1 − Y/N


_requests: Callable[[BucketSums], float] = attrgetter("requests")

METRICS = (
    Metric("success", "points", lambda sums: sums.requests - sums.ok, _requests, "failure", flipped=True),
    Metric("first_attempt", "points", lambda sums: sums.requests - sums.first_ok, _requests, "failure", flipped=True),
    Metric("fallback_rate", "points", attrgetter("fallbacks"), _requests, "fallback"),
    Metric("latency_p95", "points", attrgetter("slow"), _requests, "slow request", frozen=True),
    Metric("latency_mean", "relative", attrgetter("latency"), _requests, frozen=True),
    Metric("cost", "relative", attrgetter("cost"), _requests, frozen=True),
    Metric("feedback", "score", lambda sums: sums.rated - sums.score, attrgetter("rated"), flipped=True),
)


class Sides(NamedTuple):
    """A stage's buckets by arm."""

    percentage: float
    treated: Sequence[BucketSums]
    control: Sequence[BucketSums]


def split(stages: Iterable[Stage]) -> list[Sides]:
    """The stages with their arms apart."""
    return [
        Sides(
            stage.percentage,
            [sums for sums in stage.buckets if sums.treated],
            [sums for sums in stage.buckets if not sums.treated],
        )
        for stage in stages
    ]


def strata(metric: Metric, stages: Iterable[Sides]) -> list[Stratum]:
    """One metric's sums by stage and arm, without buckets that have no N."""
    return [Stratum(_arm(metric, stage.treated), _arm(metric, stage.control)) for stage in stages]


def _arm(metric: Metric, rows: Sequence[BucketSums]) -> Arm:
    n = list(map(metric.n, rows))
    if not all(n):
        rows = [row for row, number in zip(rows, n, strict=True) if number]
        n = list(map(metric.n, rows))
    return Arm([row.bucket for row in rows], list(map(metric.y, rows)), n)


def effect_of(metric: Metric, gate: GateConfig, data: Sequence[Stratum]) -> Effect | None:
    """How much worse the treated arm is; None where no stage can say."""
    if isinstance(gate, CeilingGateConfig):
        return excess([stratum.treated for stratum in data], gate.max)
    return difference(data, relative=metric.scale == "relative")


def margin_of(gate: GateConfig) -> float:
    """How much worse it may be, on the effect's own scale: a logarithm where that is relative."""
    if isinstance(gate, CeilingGateConfig):
        return 0.0  # the effect is the excess over it
    if isinstance(gate, RelativeGateConfig):
        return log1p(gate.margin)
    margin: float = gate.margin  # type: ignore[attr-defined]  # the other kinds all have one
    return margin if isinstance(gate, RiseGateConfig) else -margin

"""One look at a ramp: what `judge` says of the same sums, from arrays.

Left out is what no simulated ramp has: a brake, holds, stale data, missing users, ratings.
"""

from collections.abc import Iterator
from enum import Enum
from math import log1p, nan
from typing import NamedTuple

import numpy as np

from proxy.experiment import srm
from proxy.experiment.bounds import ALPHA, one_sided
from proxy.experiment.ratio import Moments as OneArm
from proxy.experiment.sample import is_surprising
from proxy.experiment.simulate.books import (
    COST,
    FAILED,
    FIRST_FAILED,
    LATENCY,
    REQUESTS,
    RESCUED,
    SLOW,
    Books,
    exposed_of,
)
from proxy.experiment.simulate.gates import Arms, Moments
from proxy.experiment.simulate.requests import Floats
from proxy.policy.config_rollout import (
    CeilingGateConfig,
    GateConfig,
    GatesConfig,
    RelativeGateConfig,
    RiseGateConfig,
    RolloutConfig,
)

_ROWS = {
    "success": FAILED,
    "first_attempt": FIRST_FAILED,
    "fallback_rate": RESCUED,
    "latency_p95": SLOW,
    "latency_mean": LATENCY,
    "cost": COST,
}


class Move(Enum):
    """What follows from a look, or from one gate."""

    STAY = "stay"
    ON = "on"
    STOP = "stop"


class GateLook(NamedTuple):
    """One gate; on the harm scale, a logarithm where it is relative.  Not a number: nothing to estimate from."""

    gate: str
    move: Move
    estimate: float
    lower: float
    upper: float


class Look(NamedTuple):
    """All gates, and what follows."""

    move: Move
    gates: tuple[GateLook, ...]
    srm_p: float

    def named(self, move: Move) -> tuple[str, ...]:
        """The gates that say so."""
        return tuple(gate.gate for gate in self.gates if gate.move is move)


def decide(books: Books, rollout: RolloutConfig, age: float, srm_p: float = 1.0) -> Look:
    """Look; `age` is the stage's, in seconds, and `srm_p` the last look's."""
    srm_p = srm.p_value(exposed_of(books), srm_p)
    gates = tuple(_gates(books, rollout.gates))
    look = Look(Move.STAY, gates, srm_p)
    if look.named(Move.STOP) or (_overdue(rollout, age) and _unsettled(rollout.gates, gates)):
        return look._replace(move=Move.STOP)
    mismatch = srm_p < rollout.health.srm.p and rollout.health.srm.action == "hold"
    if mismatch or look.named(Move.STAY) or not _grown(books, rollout, age):
        return look
    return look._replace(move=Move.ON)


def _grown(books: Books, rollout: RolloutConfig, age: float) -> bool:
    """Whether the stage has its least sample and time."""
    step = next(step for step in rollout.plan if step.percent == books.stages[-1].percentage)
    requests = float(books.stages[-1].sums[REQUESTS].sum())
    return min(books.users) >= step.min.users and requests >= step.min.requests and age >= step.soak


def _gates(books: Books, gates: GatesConfig) -> Iterator[GateLook]:
    on = {name: gate for name in GatesConfig.model_fields if (gate := getattr(gates, name)) is not None}
    guardrails = sum(gate.kind == "guardrail" for gate in on.values())
    stages = [stage for stage in books.stages if _compares(stage.sums[REQUESTS], stage.threshold)]
    moments = Moments(stages) if stages else None
    for name, gate in on.items():
        alpha = ALPHA / guardrails if gate.kind == "guardrail" else ALPHA
        if name not in _ROWS or moments is None:
            yield GateLook(name, _lacking(gate), nan, nan, nan)
        elif isinstance(gate, CeilingGateConfig):
            yield _ceiling(name, gate, moments, alpha)
        else:
            yield _comparison(name, gate, moments, alpha)


def _comparison(name: str, gate: GateConfig, moments: Moments, alpha: float) -> GateLook:
    arms = Arms(moments, _ROWS[name])
    if isinstance(gate, RelativeGateConfig):
        if not (arms.y_t + arms.y_c).all():
            return GateLook(name, _lacking(gate), nan, nan, nan)
        margin, estimate = log1p(gate.margin), arms.log_ratio
        harmless, worst = arms.log_variance(0.0), arms.log_variance(margin)
    else:
        margin = gate.margin if isinstance(gate, RiseGateConfig) else -gate.margin  # type: ignore[attr-defined]
        estimate, harmless, worst = arms.difference, arms.variance(0.0), arms.variance(margin)
    lower = estimate - one_sided(harmless, moments.distinct, alpha)
    upper = estimate + one_sided(worst, moments.distinct)
    fails, passes = lower > 0 and estimate > margin, upper < margin
    if min(moments.clusters) < gate.min.users:
        return GateLook(name, _lacking(gate), estimate, lower, upper)
    if not isinstance(gate, RelativeGateConfig) and (fails or passes or gate.on_insufficient == "ignore"):
        events = [int(np.count_nonzero(each)) for each in moments.by_bucket(_ROWS[name])]
        fails = fails and events[0] >= gate.min.events
        rate = arms.baseline + margin
        if not fails and any(
            seen < gate.min.events and not is_surprising(seen, _effective(requests), rate)
            for seen, requests in zip(events, moments.requests, strict=True)
        ):
            return GateLook(name, _lacking(gate), estimate, lower, upper)
    return GateLook(name, _move(gate, fails, passes), estimate, lower, upper)


def _ceiling(name: str, gate: CeilingGateConfig, moments: Moments, alpha: float) -> GateLook:
    """Against a fixed share: the fine-tuned arm alone."""
    y, n = moments.by_bucket(_ROWS[name])[0], moments.requests[0]
    clusters = moments.clusters[0]
    arm = OneArm(clusters, float(y.sum()), float(n.sum()), float(y @ y), float(n @ n), float(y @ n))
    estimate, variance = arm.ratio - gate.max, arm.variance(gate.max)
    lower, upper = estimate - one_sided(variance, clusters, alpha), estimate + one_sided(variance, clusters)
    fails, passes = lower > 0 and estimate > 0, upper < 0
    events = int(np.count_nonzero(y))
    enough = clusters >= gate.min.users
    fails = fails and enough and events >= gate.min.events
    few = events < gate.min.events and not is_surprising(events, _effective(n), gate.max)
    if not fails and (not enough or few):
        return GateLook(name, _lacking(gate), estimate, lower, upper)
    return GateLook(name, _move(gate, fails, passes), estimate, lower, upper)


def _move(gate: GateConfig, fails: bool, passes: bool) -> Move:
    if fails:
        return Move.STOP if gate.kind == "guardrail" else Move.STAY
    return Move.ON if passes else Move.STAY


def _lacking(gate: GateConfig) -> Move:
    return Move.ON if gate.on_insufficient == "ignore" else Move.STAY


def _effective(requests: Floats) -> float:
    """As many clusters of one size would say as much."""
    return float(requests.sum() ** 2 / (requests @ requests))


def _compares(requests: Floats, threshold: int) -> bool:
    return bool(requests[:threshold].any() and requests[threshold:].any())


def _overdue(rollout: RolloutConfig, age: float) -> bool:
    return rollout.on_inconclusive.action == "rollback" and age >= rollout.on_inconclusive.after


def _unsettled(gates: GatesConfig, looks: tuple[GateLook, ...]) -> bool:
    return any(look.move is Move.STAY and getattr(gates, look.gate).kind == "guardrail" for look in looks)

"""One look at a ramp: what `judge` says of the same sums, from arrays.

Left out is what no simulated ramp has: a brake, holds, stale data, missing users, ratings.
"""

from enum import Enum
from math import inf, nan
from typing import NamedTuple

import numpy as np

from proxy.experiment import srm
from proxy.experiment.bounds import ALPHA, one_sided
from proxy.experiment.metrics import margin_of
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
    StageSums,
    exposed_of,
)
from proxy.experiment.simulate.moments import Arms, Moments
from proxy.policy.config_rollout import CeilingGateConfig, GateConfig, GatesConfig, RelativeGateConfig, RolloutConfig

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
    enough: bool  # data
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


def decide(books: Books, rollout: RolloutConfig, age: float, srm_p: float = 1.0, *, thorough: bool = False) -> Look:
    """Look; `age` is the stage's, in seconds, and `srm_p` the last look's.

    What follows is the same without `thorough`, which takes five times as long: it tells both bounds of every
    gate, and what each gate says also where something else holds the ramp.
    """
    srm_p = srm.p_value(exposed_of(books), srm_p)
    limit, health = rollout.on_inconclusive, rollout.health.srm
    waits = (srm_p < health.p and health.action == "hold") or not _grown(books, rollout, age)
    overdue = limit.action == "rollback" and age >= limit.after and not waits
    gates = _gates(books, rollout.gates, waits, thorough or overdue)
    look = Look(Move.STAY, gates, srm_p)
    if look.named(Move.STOP) or (overdue and _unsettled(rollout.gates, gates)):
        return look._replace(move=Move.STOP)
    return look if waits or look.named(Move.STAY) else look._replace(move=Move.ON)


def _grown(books: Books, rollout: RolloutConfig, age: float) -> bool:
    """Whether the stage has its least sample and time."""
    step = next(step for step in rollout.plan if step.percent == books.stages[-1].percentage)
    requests = float(books.stages[-1].sums[REQUESTS].sum())
    return min(books.users) >= step.min.users and requests >= step.min.requests and age >= step.soak


def _gates(books: Books, gates: GatesConfig, waits: bool, thorough: bool) -> tuple[GateLook, ...]:
    """Signals are looked at first: where one holds, of the guardrails only a failure matters."""
    on = {name: gate for name in GatesConfig.model_fields if (gate := getattr(gates, name)) is not None}
    guardrails = sum(gate.kind == "guardrail" for gate in on.values())
    stages = [stage for stage in books.stages if _compares(stage)]
    if not stages:
        return tuple(GateLook(name, _lacking(gate), False, nan, nan, nan) for name, gate in on.items())
    moments = Moments(stages)
    found: dict[str, GateLook] = {}
    for name in sorted(on, key=lambda name: on[name].kind, reverse=True):
        gate = on[name]
        alpha = ALPHA / guardrails if gate.kind == "guardrail" else ALPHA
        if name not in _ROWS:
            found[name] = GateLook(name, _lacking(gate), False, nan, nan, nan)
        elif isinstance(gate, CeilingGateConfig):
            found[name] = _ceiling(name, gate, moments, alpha)
        else:
            found[name] = _comparison(name, gate, moments, alpha, waits, thorough)
        waits = waits or found[name].move is Move.STAY
    return tuple(found[name] for name in on)


def _comparison(name: str, gate: GateConfig, moments: Moments, alpha: float, waits: bool, thorough: bool) -> GateLook:
    relative = isinstance(gate, RelativeGateConfig)
    arms = Arms(moments, _ROWS[name], relative=relative)
    if relative and not all(each.yt + each.yc for each in arms.totals):  # there are no costs
        return GateLook(name, _lacking(gate), False, nan, nan, nan)
    margin, estimate = margin_of(gate), arms.estimate
    lower, upper = -inf, inf
    if thorough or (estimate > margin and gate.kind == "guardrail"):
        lower = estimate - one_sided(arms.variance(0.0), moments.distinct, alpha)
    if thorough or (estimate < margin and not waits):
        upper = estimate + one_sided(arms.variance(margin), moments.distinct)
    fails, passes = lower > 0 and estimate > margin, upper < margin
    if min(moments.clusters) < max(gate.min.users, gate.min.rated):
        return GateLook(name, _lacking(gate), False, estimate, lower, upper)
    if not relative and (thorough or fails or passes or gate.on_insufficient == "ignore"):
        events = [int(np.count_nonzero(each)) for each in moments.by_bucket(_ROWS[name])]
        fails = fails and events[0] >= gate.min.events
        rate = arms.baseline + margin
        if not fails and any(
            seen < gate.min.events and not is_surprising(seen, clusters, rate)
            for seen, clusters in zip(events, moments.clusters, strict=True)
        ):
            return GateLook(name, _lacking(gate), False, estimate, lower, upper)
    return GateLook(name, _move(gate, fails, passes), True, estimate, lower, upper)


def _ceiling(name: str, gate: CeilingGateConfig, moments: Moments, alpha: float) -> GateLook:
    """Against a fixed share: the fine-tuned arm alone."""
    y, n = moments.by_bucket(_ROWS[name])[0], moments.requests[0]
    clusters = moments.clusters[0]
    arm = OneArm(clusters, float(y.sum()), float(n.sum()), float(y @ y), float(n @ n), float(y @ n))
    estimate, variance = arm.ratio - gate.max, arm.variance(gate.max)
    lower, upper = estimate - one_sided(variance, clusters, alpha), estimate + one_sided(variance, clusters)
    fails, passes = lower > 0 and estimate > 0, upper < 0
    events = int(np.count_nonzero(y))
    enough = clusters >= max(gate.min.users, gate.min.rated)
    fails = fails and enough and events >= gate.min.events
    few = events < gate.min.events and not is_surprising(events, clusters, gate.max)
    if not fails and (not enough or few):
        return GateLook(name, _lacking(gate), False, estimate, lower, upper)
    return GateLook(name, _move(gate, fails, passes), True, estimate, lower, upper)


def _move(gate: GateConfig, fails: bool, passes: bool) -> Move:
    if fails:
        return Move.STOP if gate.kind == "guardrail" else Move.STAY
    return Move.ON if passes else Move.STAY


def _lacking(gate: GateConfig) -> Move:
    return Move.ON if gate.on_insufficient == "ignore" else Move.STAY


def _compares(stage: StageSums) -> bool:
    requests = stage.sums[REQUESTS]
    return bool(requests[: stage.finetuned].any() and requests[stage.finetuned :].any())


def _unsettled(gates: GatesConfig, looks: tuple[GateLook, ...]) -> bool:
    """Whether a guardrail has enough data and holds all the same."""
    return any(
        look.enough and look.move is Move.STAY and getattr(gates, look.gate).kind == "guardrail" for look in looks
    )

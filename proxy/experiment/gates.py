"""One gate after the other: PASS, FAIL or HOLD (STATISTICS.md, decision rules and H).  Pure.

On the harm scale, with one-sided bounds L and U:  PASS  U < margin;  FAIL  L > 0 and estimate > margin;  else HOLD.
Rolling back takes any guardrail, so alpha is split over them for L; going on takes all gates, so each has all of it
for U.  L and U have residuals under the null they test (score form): 0 and the margin.
"""

from collections.abc import Sequence
from typing import NamedTuple

from proxy.experiment.bounds import ALPHA
from proxy.experiment.evidence import Evidence
from proxy.experiment.metrics import METRICS, Metric, Sides, split, strata
from proxy.experiment.ramp import Stratum
from proxy.experiment.reading import Reading, read, unread
from proxy.experiment.sample import Shortage, Side, too_few_events, too_few_users
from proxy.experiment.verdict import Because, GateVerdict, Outcome, Reason
from proxy.policy.config_rollout import CeilingGateConfig, GateConfig, GatesConfig

_BUCKETS = 10_000
_PER_CENT = 100  # buckets

_NO_THRESHOLDS = Shortage("the baseline has too few requests to freeze what is slow or dear", None)
_NO_COMPARISON = Shortage("no stage has data of both arms", None)


class Gated(NamedTuple):
    """A gate's verdict, and how surprising its harm is."""

    verdict: GateVerdict
    p: float | None  # one-sided, of no harm; None: a signal, or too little data


def evaluate(evidence: Evidence, gates: GatesConfig) -> tuple[Gated, ...]:
    """Every gate that is on, in the policy's order."""
    on: list[tuple[Metric, GateConfig]] = []
    for metric in METRICS:
        gate: GateConfig | None = getattr(gates, metric.gate)
        if gate is not None:
            on.append((metric, gate))
    guardrails = sum(gate.kind == "guardrail" for _, gate in on)
    stages = split(evidence.stages)
    return tuple(_evaluate(metric, gate, evidence, stages, guardrails) for metric, gate in on)


def _evaluate(metric: Metric, gate: GateConfig, evidence: Evidence, stages: Sequence[Sides], guardrails: int) -> Gated:
    if metric.frozen and evidence.thresholds is None:
        return Gated(unread(metric, gate, *_insufficient(metric, gate, _NO_THRESHOLDS)), None)
    data = strata(metric, stages)
    guards = gate.kind == "guardrail"
    reading = read(metric, gate, data, ALPHA / guardrails if guards else ALPHA)
    if reading is None:
        return Gated(unread(metric, gate, *_insufficient(metric, gate, _NO_COMPARISON)), None)
    place = next((i for i, stage in enumerate(stages) if stage.percentage == evidence.percentage), None)
    age = None if evidence.since is None else evidence.now - evidence.since
    sides = _sides(reading, data, place, evidence.percentage)
    few = too_few_users(sides, max(gate.min.users, gate.min.rated), age)
    testable = few is None and (not metric.event or sides[0].events >= gate.min.events)
    outcome, because = _decide(reading, sides, few, testable, place, age)
    return Gated(reading.verdict(outcome, because), reading.p if testable and guards else None)


def _decide(
    reading: Reading, sides: Sequence[Side], few: Shortage | None, testable: bool, place: int | None, age: float | None
) -> tuple[Outcome, Because | None]:
    """`testable`: harm, if there is any, has been seen in enough treated buckets to be believed."""
    metric, gate, effect = reading.metric, reading.gate, reading.effect
    if testable and reading.lower > 0.0 and effect.estimate > reading.margin:
        if gate.kind == "guardrail":
            return Outcome.FAIL, Because(Reason.GUARDRAIL_FAIL, metric.gate, None, reading.harm)
        return Outcome.HOLD, Because(Reason.INCONCLUSIVE, metric.gate, None, f"{reading.harm}; a signal only holds")
    if few is None and metric.event:
        few = too_few_events(sides, gate.min.events, metric.event, _ruled_out(reading), age)
    if few is not None:
        return _insufficient(metric, gate, few)
    if reading.upper < reading.margin:
        return Outcome.PASS, None
    share = effect.weights[place] / sum(effect.weights) if place is not None else 0.0
    eta = reading.until_clear(share, age)
    return Outcome.HOLD, Because(Reason.INCONCLUSIVE, metric.gate, eta, reading.limits)


def _sides(reading: Reading, data: Sequence[Stratum], place: int | None, percentage: float) -> list[Side]:
    """The arms that must have seen enough: a ceiling has no control."""
    used = [stratum for stratum, weight in zip(data, reading.effect.weights, strict=True) if weight]
    treated = round(percentage * _PER_CENT)
    capacities = (treated,) if reading.effect.control is None else (treated, _BUCKETS - treated)
    return [
        Side([stratum[number] for stratum in used], None if place is None else data[place][number], capacity)
        for number, capacity in enumerate(capacities)
    ]


def _ruled_out(reading: Reading) -> float:
    """The treated rate at which the gate must not pass, a share."""
    gate, control = reading.gate, reading.effect.control
    return gate.max if isinstance(gate, CeilingGateConfig) else (control or 0.0) + reading.margin


def _insufficient(metric: Metric, gate: GateConfig, few: Shortage) -> tuple[Outcome, Because]:
    outcome = Outcome.PASS if gate.on_insufficient == "ignore" else Outcome.HOLD
    return outcome, Because(Reason.INSUFFICIENT_USERS, metric.gate, few.eta, few.detail)

"""The A/A picture: what the gates would have said of users whom nothing divides.

Before anybody is exposed all users of an agent are on the baseline.  Split at random, as the first step will
split them, they differ by chance alone: a FAIL is a false alarm, a PASS is what a model just as good would get.
One look, when it is taken; what many looks come to is what `splitlane simulate --from-store` says.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from proxy.experiment.evidence import Evidence, Stage, Thresholds
from proxy.experiment.gates import evaluate
from proxy.experiment.verdict import GateVerdict, Outcome, Reason
from proxy.policy.config_rollout import RolloutConfig

BUCKETS = 10_000
_PLACES = {Outcome.FAIL: 0, Outcome.PASS: 1, Outcome.HOLD: 2}
RELABELINGS = 200  # a false alarm in a hundred is seen in nine out of ten pictures


class Picture(NamedTuple):
    """One gate in all relabelings: how many failed, passed and held; `short` of the last: too little data."""

    gate: str
    kind: str  # guardrail | signal
    fails: int
    passes: int
    holds: int
    short: int


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Of one agent at 0 %."""

    percentage: float  # the share that the users are split by: the first step's
    relabelings: int
    buckets: int  # with requests
    requests: int
    gates: tuple[Picture, ...]
    rolled_back: int  # relabelings in which any guardrail failed
    passed: int  # in which all gates passed
    coming: tuple[GateVerdict, ...]  # the split that is to come, under this salt
    thresholds: Thresholds | None


def false_alarms(
    stage: Stage,
    rollout: RolloutConfig,
    thresholds: Thresholds | None,
    relabelings: int = RELABELINGS,
    seed: int = 1,
    step: Callable[[], None] = lambda: None,
) -> FalseAlarms:
    """The picture of a stage at 0 %, by the policy's gates; `step` is called once for each relabeling.

    The same seed gives the same picture.  A relabeling takes what `judge` takes: 10 ms for 700 buckets, 100 ms
    for 9,000.
    """
    percentage = rollout.plan[0].percent
    treated = round(percentage * 100)

    def split(finetuned: Collection[int]) -> tuple[GateVerdict, ...]:
        buckets = tuple(sums._replace(treated=sums.bucket in finetuned) for sums in stage.buckets)
        evidence = _evidence(Stage(percentage, buckets), thresholds)
        return tuple(gated.verdict for gated in evaluate(evidence, rollout.gates))

    coming = split(range(treated))
    counts = {gate.gate: [0, 0, 0, 0] for gate in coming}
    rolled_back = passed = 0
    rng = Random(seed)
    for _ in range(relabelings):
        gates = split(frozenset(rng.sample(range(BUCKETS), treated)))
        for gate in gates:
            counts[gate.gate][_PLACES[gate.outcome]] += 1
            counts[gate.gate][3] += gate.outcome is Outcome.HOLD and _is_short(gate)
        rolled_back += any(gate.outcome is Outcome.FAIL for gate in gates)
        passed += all(gate.outcome is Outcome.PASS for gate in gates)
        step()
    return FalseAlarms(
        percentage,
        relabelings,
        len(stage.buckets),
        sum(sums.requests for sums in stage.buckets),
        tuple(Picture(gate.gate, gate.kind, *counts[gate.gate]) for gate in coming),
        rolled_back,
        passed,
        coming,
        thresholds,
    )


def _is_short(gate: GateVerdict) -> bool:
    return gate.because is not None and gate.because.reason is Reason.INSUFFICIENT_USERS


def _evidence(stage: Stage, thresholds: Thresholds | None) -> Evidence:
    """As much of it as gates look at."""
    return Evidence(
        agent="",
        salt="",
        percentage=stage.percentage,
        now=0.0,
        stages=(stage,),
        exposed=(),
        users=(0, 0),
        since=None,
        newest=None,
        newest_of_any=None,
        missing_users=None,
        thresholds=thresholds,
        brake=None,
        hold=None,
        p_values={},
    )

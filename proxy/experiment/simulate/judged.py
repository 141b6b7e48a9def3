"""A look through `judge` itself, on the evidence that the store would have: slow, and what `decide` must agree with."""

from proxy.experiment.judge import SRM, judge
from proxy.experiment.simulate.books import Books, evidence_of
from proxy.experiment.simulate.decide import GateLook, Look, Move
from proxy.experiment.verdict import Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig

_MOVES = {Outcome.PASS: Move.ON, Outcome.FAIL: Move.STOP, Outcome.HOLD: Move.STAY}


def judged(books: Books, rollout: RolloutConfig, age: float, srm_p: float, *, thorough: bool = True) -> Look:
    """As `decide`, which see; always thorough."""
    del thorough
    return look_of(judge(evidence_of(books, age, age, {SRM: srm_p}), rollout))


def look_of(verdict: Verdict) -> Look:
    """What a verdict says; numbers are as people read them, and not a number where it has none."""
    gates = tuple(
        GateLook(
            gate.gate,
            _MOVES[gate.outcome],
            gate.because is None or gate.because.reason is not Reason.INSUFFICIENT_USERS,
            *(float("nan") if number is None else number for number in (gate.estimate, gate.lower, gate.upper)),
        )
        for gate in verdict.gates
    )
    return Look(_MOVES[verdict.outcome], gates, 1.0 if verdict.srm_p is None else verdict.srm_p)

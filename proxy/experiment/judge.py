"""Whether a ramp may go on, must go back, or waits, and what for (STATISTICS.md, order of evaluation).  Pure.

Brake, earlier failure or pause; stale or no data; a guardrail's FAIL; sample ratio, missing users; the stage's
least sample; soak; all gates PASS; approval.  The first reason decides.  Missing data never fails.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from proxy.experiment.evidence import Evidence
from proxy.experiment.gates import evaluate
from proxy.experiment.health import freshness, population
from proxy.experiment.srm import p_value
from proxy.experiment.stage import early, observing, overdue
from proxy.experiment.verdict import Because, GateVerdict, Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig, StepConfig

SRM = "srm"  # its key among the p-values; a guardrail's is the gate's name

_FAILS = frozenset({Reason.BRAKE, Reason.GUARDRAIL_FAIL})


class _Found(NamedTuple):
    """Reasons in their order, and what the policy only wants said."""

    because: Sequence[Because]
    warnings: Sequence[Because] = ()
    fails: bool = False  # although the first reason alone would not


def judge(evidence: Evidence, rollout: RolloutConfig, observe: float | None = None) -> Verdict:
    """One agent at one moment; `observe` is how many seconds it is watched at 0 % before it starts by itself.

    The verdict's p-values are for the next look's evidence, as long as the salt stays.
    """
    gated = evaluate(evidence, rollout.gates)
    p_values = dict(evidence.p_values)
    for gate, p in gated:
        if p is not None:
            p_values[gate.gate] = min(p, p_values.get(gate.gate, 1.0))
    if evidence.exposed:
        p_values[SRM] = p_value(evidence.exposed, p_values.get(SRM, 1.0))

    gates = tuple(gate for gate, _ in gated)
    following = next((step for step in rollout.plan if step.percent > evidence.percentage), None)
    found = _find(evidence, rollout, observe, gates, p_values, following)
    if not found.because and following is None:
        found = found._replace(because=(Because(Reason.COMPLETE, detail="the last step"),))
    elif not found.because and following is not None and following.approval:
        detail = f"a person must agree to {following.percent:g} %"
        found = found._replace(because=(Because(Reason.APPROVAL, detail=detail),))
    return Verdict(
        agent=evidence.agent,
        percentage=evidence.percentage,
        next_percentage=None if following is None else following.percent,
        outcome=_outcome(found),
        because=tuple(found.because),
        warnings=tuple(found.warnings),
        gates=gates,
        srm_p=p_values.get(SRM),
        eta=_latest(each.eta for each in found.because),
        p_values=p_values,
    )


def _find(
    evidence: Evidence,
    rollout: RolloutConfig,
    observe: float | None,
    gates: Sequence[GateVerdict],
    p_values: Mapping[str, float],
    following: StepConfig | None,
) -> _Found:
    stopped = _stopped(evidence)
    started = evidence.percentage > 0.0
    failed = [gate.because for gate in gates if gate.outcome is Outcome.FAIL and gate.because]
    if stopped:
        return _Found([*stopped, *failed] if started else stopped)
    if not started and observe is None:
        return _Found([Because(Reason.NOT_STARTED, detail="at 0 %, and no `rollout.observe`")])
    fresh, people = freshness(evidence, rollout.health), population(evidence, rollout.health, p_values.get(SRM))
    warnings = [*fresh.warnings, *people.warnings]
    if not started and observe is not None:
        waiting = observing(evidence, observe, failed)
        return _Found([*fresh.reasons, *people.reasons, *waiting], warnings)
    sure = [*fresh.reasons, *failed, *people.reasons]
    if failed or (following is None and evidence.percentage >= 100.0):
        return _Found(sure, warnings)
    step = next((step for step in rollout.plan if step.percent == evidence.percentage), None)
    soon = early(evidence, step or StepConfig(percent=evidence.percentage))
    held = [gate.because for gate in gates if gate.outcome is Outcome.HOLD and gate.because]
    held, fails = overdue(evidence, rollout, gates, held)
    return _Found([*sure, *soon, *held], warnings, fails and not sure and not soon)


def _stopped(evidence: Evidence) -> list[Because]:
    found = []
    if evidence.brake is not None:
        found.append(Because(Reason.BRAKE, detail="until a person clears it"))
    if evidence.hold is not None:
        reason = Reason.PAUSED if evidence.hold.kind == "paused" else Reason.FAILED
        found.append(Because(reason, detail=evidence.hold.reason))
    return found


def _outcome(found: _Found) -> Outcome:
    if not found.because:
        return Outcome.PASS
    return Outcome.FAIL if found.fails or found.because[0].reason in _FAILS else Outcome.HOLD


def _latest(etas: Iterable[float | None]) -> float | None:
    known = list(etas)
    return None if None in known else max((eta for eta in known if eta is not None), default=0.0)

"""Whether a ramp may go on, must go back, or waits, and what for (STATISTICS.md, order of evaluation).  Pure.

Brake, earlier failure or pause; stale or no data; a guardrail's FAIL; sample ratio, missing users; the stage's
least sample; soak; all gates PASS; approval.  The first reason decides.  Missing data never fails.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from proxy.experiment.evidence import Evidence
from proxy.experiment.gates import evaluate
from proxy.experiment.health import freshness, population
from proxy.experiment.sample import Shortage, joined, until
from proxy.experiment.srm import p_value
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
        waiting = _observing(evidence, observe, failed)
        return _Found([*fresh.reasons, *people.reasons, *waiting], warnings)
    sure = [*fresh.reasons, *failed, *people.reasons]
    if failed or (following is None and evidence.percentage >= 100.0):
        return _Found(sure, warnings)
    step = next((step for step in rollout.plan if step.percent == evidence.percentage), None)
    early = _early(evidence, step or StepConfig(percent=evidence.percentage))
    held = [gate.because for gate in gates if gate.outcome is Outcome.HOLD and gate.because]
    held, fails = _overdue(evidence, rollout, gates, held)
    return _Found([*sure, *early, *held], warnings, fails and not sure and not early)


def _stopped(evidence: Evidence) -> list[Because]:
    found = []
    if evidence.brake is not None:
        found.append(Because(Reason.BRAKE, detail="until a person clears it"))
    if evidence.hold is not None:
        reason = Reason.PAUSED if evidence.hold.kind == "paused" else Reason.FAILED
        found.append(Because(reason, detail=evidence.hold.reason))
    return found


def _observing(evidence: Evidence, observe: float, failed: Sequence[Because]) -> list[Because]:
    age = 0.0 if evidence.since is None else evidence.now - evidence.since
    if age < observe:
        return [Because(Reason.OBSERVING, "", observe - age, f"{_hours(age)} of {_hours(observe)}")]
    if failed:  # in a stage that was taken back
        names = ", ".join(each.metric for each in failed)
        detail = f"with this salt the fine-tune has failed already: {names}; a person must start it, or a new salt"
        return [Because(Reason.NOT_STARTED, detail=detail)]
    return []


def _early(evidence: Evidence, step: StepConfig) -> list[Because]:
    """The stage's least sample and time."""
    found = []
    age = None if evidence.since is None else evidence.now - evidence.since
    requests = sum(
        sums.requests for stage in evidence.stages if stage.percentage == evidence.percentage for sums in stage.buckets
    )
    arms = zip(("fine-tuned", "baseline"), evidence.users, strict=True)
    missing = [
        Shortage(f"{have} of {needed} {what}", until(needed - have, have, age))
        for have, needed, what in (
            *((users, step.min.users, f"{arm} users") for arm, users in arms),
            (requests, step.min.requests, "requests"),
        )
        if have < needed
    ]
    few = joined(missing)
    if few is not None:
        found.append(Because(Reason.INSUFFICIENT_USERS, "", few.eta, few.detail))
    if (age or 0.0) < step.soak:
        detail = f"{_hours(age or 0.0)} of {_hours(step.soak)}"
        found.append(Because(Reason.SOAK, "", step.soak - (age or 0.0), detail))
    return found


def _overdue(
    evidence: Evidence, rollout: RolloutConfig, gates: Sequence[GateVerdict], held: list[Because]
) -> tuple[list[Because], bool]:
    """The gates' reasons, and whether they have been inconclusive for so long that the policy takes it for a failure.

    Signals only hold, however long.
    """
    limit = rollout.on_inconclusive
    if evidence.since is None or evidence.now - evidence.since < limit.after:
        return held, False
    guardrails = {gate.gate for gate in gates if gate.kind == "guardrail"}
    after = f"; not settled in {_hours(limit.after)}"
    told = [each._replace(detail=each.detail + after) if each.reason is Reason.INCONCLUSIVE else each for each in held]
    unsettled = [each for each in told if each.reason is Reason.INCONCLUSIVE and each.metric in guardrails]
    if limit.action != "rollback" or not unsettled:
        return told, False
    return [*unsettled, *(each for each in told if each not in unsettled)], True


def _outcome(found: _Found) -> Outcome:
    if not found.because:
        return Outcome.PASS
    return Outcome.FAIL if found.fails or found.because[0].reason in _FAILS else Outcome.HOLD


def _latest(etas: Iterable[float | None]) -> float | None:
    known = list(etas)
    return None if None in known else max((eta for eta in known if eta is not None), default=0.0)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600.0:.1f} h"

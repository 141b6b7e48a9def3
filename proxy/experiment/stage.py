"""What a stage wants before it is over: people, requests, time; and when it has gone on for too long.  Pure."""

from collections.abc import Sequence

from proxy.experiment.evidence import Evidence
from proxy.experiment.sample import Shortage, joined, until
from proxy.experiment.verdict import Because, GateVerdict, Reason
from proxy.policy.config_rollout import RolloutConfig, StepConfig


def observing(evidence: Evidence, observe: float, failed: Sequence[Because]) -> list[Because]:
    """What keeps an agent at 0 % that is watched for `observe` seconds; `failed` are the gates that do."""
    age = 0.0 if evidence.since is None else evidence.now - evidence.since
    if age < observe:
        return [Because(Reason.OBSERVING, "", observe - age, f"{_hours(age)} of {_hours(observe)}")]
    if failed:  # in a stage that was taken back
        names = ", ".join(each.metric for each in failed)
        detail = f"with this salt the fine-tune has failed already: {names}; a person must start it, or a new salt"
        return [Because(Reason.NOT_STARTED, detail=detail)]
    return []


def early(evidence: Evidence, step: StepConfig) -> list[Because]:
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


def overdue(
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


def _hours(seconds: float) -> str:
    return f"{seconds / 3600.0:.1f} h"

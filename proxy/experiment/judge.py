"""STAND-IN of branch stats."""

from proxy.experiment.evidence import Evidence
from proxy.experiment.verdict import Because, Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig


def judge(evidence: Evidence, rollout: RolloutConfig, observe: float | None = None) -> Verdict:
    following = next((step.percent for step in rollout.plan if step.percent > evidence.percentage), None)
    because: tuple[Because, ...] = ()
    outcome = Outcome.HOLD
    if evidence.brake:
        outcome, because = Outcome.FAIL, (Because(Reason.BRAKE),)
    elif evidence.percentage == 0:
        because = (Because(Reason.NOT_STARTED),)
    else:
        because = (Because(Reason.INSUFFICIENT_USERS),)
    return Verdict(evidence.agent, evidence.percentage, following, outcome, because, (), (), None, None, {})

"""STAND-IN of branch stats."""

from proxy.experiment.evidence import Evidence
from proxy.experiment.verdict import Because, GateVerdict, Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig


def judge(evidence: Evidence, rollout: RolloutConfig, observe: float | None = None) -> Verdict:
    """As far as tests of the report need it."""
    following = next((step.percent for step in rollout.plan if step.percent > evidence.percentage), None)
    buckets = [each for stage in evidence.stages for each in stage.buckets]
    sums = {
        treated: (
            sum(b.ok for b in buckets if b.treated is treated),
            sum(b.requests for b in buckets if b.treated is treated),
        )
        for treated in (True, False)
    }
    gates: tuple[GateVerdict, ...] = ()
    if all(n for _, n in sums.values()):
        t, c = (ok / n for ok, n in sums.values())
        gates = (
            GateVerdict(
                "success",
                "guardrail",
                Outcome.PASS,
                None,
                "points",
                t,
                c,
                c - t,
                c - t - 0.01,
                c - t + 0.004,
                0.01,
                (9, 9),
            ),
        )
    because: tuple[Because, ...] = ()
    if evidence.brake:
        because = (Because(Reason.BRAKE),)
    elif evidence.hold:
        because = (Because(Reason.PAUSED, detail=evidence.hold.reason),)
    elif not gates:
        because = (Because(Reason.INSUFFICIENT_USERS, eta=2 * 86400.0),)
    return Verdict(
        evidence.agent,
        evidence.percentage,
        following,
        Outcome.HOLD if because else Outcome.PASS,
        because,
        (),
        gates,
        0.5 if gates else None,
        because[0].eta if because else None,
        {},
    )

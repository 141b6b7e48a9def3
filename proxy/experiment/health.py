"""Whether the numbers can be trusted: fresh, of this agent, split as they should be, by people with a name.  Pure.

Each gives its reasons to hold and, where the policy only wants it said, its warnings.
"""

from typing import Literal, NamedTuple

from proxy.experiment.evidence import Evidence
from proxy.experiment.verdict import Because, Reason
from proxy.policy.config_rollout import HealthConfig


class Findings(NamedTuple):
    """What is wrong."""

    reasons: list[Because]
    warnings: list[Because]

    def note(self, action: Literal["hold", "warn"], because: Because) -> None:
        """File it where `action` says."""
        (self.reasons if action == "hold" else self.warnings).append(because)


def freshness(evidence: Evidence, health: HealthConfig) -> Findings:
    """Nothing new of anybody means a silent pipeline; nothing of this agent means that nobody calls it."""
    findings = Findings([], [])
    if evidence.newest_of_any is not None:
        age = evidence.now - evidence.newest_of_any
        if age > health.stale.max:
            detail = f"nothing of any agent for {_time(age)}, allowed {_time(health.stale.max)}"
            findings.note(health.stale.action, Because(Reason.STALE, detail=detail))
    if evidence.newest is None:
        findings.note(health.no_traffic.action, Because(Reason.NO_TRAFFIC, detail="no request of the agent yet"))
    elif evidence.now - evidence.newest > health.no_traffic.grace:
        age = evidence.now - evidence.newest
        detail = f"no request of the agent for {_time(age)}, allowed {_time(health.no_traffic.grace)}"
        findings.note(health.no_traffic.action, Because(Reason.NO_TRAFFIC, detail=detail))
    return findings


def population(evidence: Evidence, health: HealthConfig, srm_p: float | None) -> Findings:
    """Whether the arms hold the people they should; `srm_p` is the smallest p-value so far."""
    findings = Findings([], [])
    if srm_p is not None and srm_p < health.srm.p:
        detail = f"people are not split as the policy says: p = {srm_p:.2g}, alarm below {health.srm.p:g}"
        findings.note(health.srm.action, Because(Reason.SRM, detail=detail))
    missing = evidence.missing_users
    if missing is not None and missing > health.missing_users.max:
        detail = f"{missing:.0%} of the requests name no user, allowed {health.missing_users.max:.0%}"
        findings.note(health.missing_users.action, Because(Reason.MISSING_USERS, detail=detail))
    return findings


def _time(seconds: float) -> str:
    return f"{seconds / 3600.0:.1f} h" if seconds >= 3600.0 else f"{seconds / 60.0:.0f} min"

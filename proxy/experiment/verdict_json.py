"""A finding as plain data, with keys that stay.  Pure.

Shares are 0 … 1, times RFC 3339, waits seconds, costs US dollars; null where there is no number.
"""

from collections.abc import Sequence
from typing import Any

from proxy.experiment.advice import advice_of
from proxy.experiment.findings import Arms, Finding
from proxy.experiment.verdict import Because, GateVerdict
from proxy.ledger.figures import timestamp


def finding_json(finding: Finding) -> dict[str, Any]:
    """One agent's recommendation and its evidence."""
    evidence, verdict = finding.evidence, finding.verdict
    action, sentence = advice_of(verdict, finding.rollout.on_fail)
    return {
        "action": str(action),
        "recommendation": sentence,
        "outcome": str(verdict.outcome),
        "percentage": verdict.percentage,
        "next_percentage": verdict.next_percentage,
        "salt": evidence.salt,
        "stage_since": _time(evidence.since),
        "eta_seconds": verdict.eta,
        "reasons": _reasons(verdict.because),
        "warnings": _reasons(verdict.warnings),
        "gates": [_gate(gate) for gate in verdict.gates],
        "stages": [
            {
                "percentage": line.percentage,
                "since": _time(line.since),
                "until": _time(line.until),
                "users": {"finetuned": line.users[0], "baseline": line.users[1]},
                **_arms(line.arms),
            }
            for line in finding.stages
        ],
        "views": {"decides": "assigned", "assigned": _arms(finding.assigned), "served": _arms(finding.served)},
        "cost_usd_per_1000_requests": {
            name: arm.cost / arm.requests * 1000 if arm.requests else None
            for name, arm in finding.assigned._asdict().items()
        },
        "health": {
            "srm_p": verdict.srm_p,
            "fallback_rate": finding.fallback_rate,
            "missing_users": evidence.missing_users,
            "newest": _time(evidence.newest),
        },
        "decisions": [
            {
                "time": _time(each.time),
                "action": each.action,
                "percentage": each.percentage,
                "target": each.target,
                "actor": each.actor,
                "reasons": list(each.reasons),
            }
            for each in finding.decisions
        ],
        "brake": None if evidence.brake is None else {"time": _time(evidence.brake.time)},
        "hold": None if evidence.hold is None else {**evidence.hold._asdict(), "time": _time(evidence.hold.time)},
    }


def _arms(arms: Arms) -> dict[str, Any]:
    return {
        "requests": {name: arm.requests for name, arm in arms._asdict().items()},
        "success": {name: arm.success for name, arm in arms._asdict().items()},
    }


def _gate(gate: GateVerdict) -> dict[str, Any]:
    return {
        "gate": gate.gate,
        "kind": gate.kind,
        "outcome": str(gate.outcome),
        "reason": None if gate.because is None else _reason(gate.because),
        "scale": gate.scale,
        "finetuned": gate.finetuned,
        "baseline": gate.baseline,
        "estimate": gate.estimate,
        "lower": gate.lower,
        "upper": gate.upper,
        "margin": gate.margin,
        "clusters": {"finetuned": gate.clusters[0], "baseline": gate.clusters[1]},
    }


def _reasons(reasons: Sequence[Because]) -> list[dict[str, Any]]:
    return [_reason(each) for each in reasons]


def _reason(because: Because) -> dict[str, Any]:
    return {
        "code": str(because.reason),
        "metric": because.metric or None,
        "eta_seconds": because.eta,
        "detail": because.detail,
    }


def _time(unix: float | None) -> str | None:
    return None if unix is None else timestamp(unix)

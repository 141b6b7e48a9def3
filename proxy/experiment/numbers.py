"""What a decision rests on, as plain JSON values: for the history, and for machines that ask.  Pure.

Times are Unix seconds, durations seconds, shares 0 … 1; what has no value is null.
"""

import math
from collections.abc import Iterable
from typing import Any

from proxy.experiment.evidence import BucketSums, Evidence, Stage
from proxy.experiment.verdict import Because, GateVerdict, Verdict

_SUMS = BucketSums._fields[2:]


def numbers_of(evidence: Evidence, verdict: Verdict, policy_hash: str) -> dict[str, Any]:
    """The verdict with its gates, and the sums of both arms in every stage."""
    return {
        "policy": policy_hash,
        "salt": evidence.salt,
        "percentage": evidence.percentage,
        "next_percentage": verdict.next_percentage,
        "outcome": str(verdict.outcome),
        "reasons": reasons_json(verdict.because),
        "warnings": reasons_json(verdict.warnings),
        "eta": verdict.eta,
        "gates": [_gate(gate) for gate in verdict.gates],
        "srm_p": verdict.srm_p,
        "p_values": dict(verdict.p_values),
        "users": {"finetuned": evidence.users[0], "baseline": evidence.users[1]},
        "stages": [_stage(stage) for stage in evidence.stages],
        "exposed": [each._asdict() for each in evidence.exposed],
        "since": evidence.since,
        "newest": evidence.newest,
        "newest_of_any": evidence.newest_of_any,
        "missing_users": evidence.missing_users,
        "thresholds": evidence.thresholds and evidence.thresholds._asdict(),
        "brake": evidence.brake and evidence.brake._asdict(),
        "hold": evidence.hold and evidence.hold._asdict(),
    }


def reasons_json(because: Iterable[Because]) -> list[dict[str, Any]]:
    """Reasons with their ETAs in seconds."""
    return [{**each._asdict(), "reason": str(each.reason)} for each in because]


def _gate(gate: GateVerdict) -> dict[str, Any]:
    return {
        "gate": gate.gate,
        "kind": gate.kind,
        "outcome": str(gate.outcome),
        "reason": gate.because and str(gate.because),
        "scale": gate.scale,
        **{name: _finite(getattr(gate, name)) for name in ("finetuned", "baseline", "estimate", "lower", "upper")},
        "margin": gate.margin,
        "clusters": {"finetuned": gate.clusters[0], "baseline": gate.clusters[1]},
    }


def _finite(number: float | None) -> float | None:
    """JSON has no infinity: a bound that is nowhere is null."""
    return number if number is not None and math.isfinite(number) else None


def _stage(stage: Stage) -> dict[str, Any]:
    arms = {"finetuned": True, "baseline": False}
    return {
        "percentage": stage.percentage,
        **{name: _arm([each for each in stage.buckets if each.treated is treated]) for name, treated in arms.items()},
    }


def _arm(buckets: list[BucketSums]) -> dict[str, float]:
    return {"buckets": len(buckets), **{name: sum(getattr(each, name) for each in buckets) for name in _SUMS}}

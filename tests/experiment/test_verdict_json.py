"""The keys that machines read."""

import json

from proxy.experiment.verdict import Because, Reason
from proxy.experiment.verdict_json import finding_json
from proxy.words import Brake
from tests.experiment.verdicts import DAY, SLOW, evidence, finding, verdict


def test_keys_and_numbers_of_a_holding_agent() -> None:
    because = Because(Reason.INCONCLUSIVE, "latency_p95", 2 * DAY, "in words")
    data = json.loads(json.dumps(finding_json(finding(verdict(because, gates=(SLOW,))))))
    assert (data["action"], data["outcome"], data["percentage"], data["next_percentage"]) == ("hold", "hold", 10, 25)
    assert data["recommendation"].startswith("Hold: 2 days more")
    assert data["reasons"] == [
        {"code": "INCONCLUSIVE", "metric": "latency_p95", "eta_seconds": 172800, "detail": "in words"}
    ]
    assert data["stage_since"] == "2026-11-22T09:00:00Z"
    (gate,) = data["gates"]
    assert {name: gate[name] for name in ("estimate", "lower", "upper", "margin", "outcome")} == {
        "estimate": 0.009,
        "lower": -0.013,
        "upper": 0.031,
        "margin": 0.025,
        "outcome": "hold",
    }
    assert data["stages"][1]["users"] == {"finetuned": 112, "baseline": 980}
    assert data["views"]["decides"] == "assigned"
    assert data["views"]["served"]["requests"] == {"finetuned": 684, "baseline": 6516}
    assert data["health"] == {
        "srm_p": 0.43,
        "fallback_rate": 0.05,
        "missing_users": 0.012,
        "newest": "2026-11-25T08:59:20Z",
    }
    assert (data["brake"], data["hold"], data["decisions"]) == (None, None, [])


def test_agent_without_anything_is_nulls_and_no_error() -> None:
    held = evidence(stages=(), since=None, newest=None, brake=Brake("i", "qa_agent", 0.0, "{}"))
    nothing = verdict(Because(Reason.BRAKE), gates=(), srm_p=None)
    data = finding_json(finding(nothing, evidence=held, stages=(), course=()))
    assert data["cost_usd_per_1000_requests"] == {"finetuned": None, "baseline": None}
    assert data["brake"] == {"time": "1970-01-01T00:00:00Z"}
    json.dumps(data, allow_nan=False)

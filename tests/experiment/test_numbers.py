"""The numbers of a decision can be stored, and are all there."""

import json
import math

from proxy.experiment.evidence import BucketSums, Exposed, Hold, Stage, Thresholds
from proxy.experiment.numbers import numbers_of
from proxy.experiment.verdict import Because, GateVerdict, Outcome, Reason
from proxy.words import Brake
from tests.experiment.looks import NOW, evidence, verdict


def sums(bucket: int, *, treated: bool, requests: int) -> BucketSums:
    return BucketSums(bucket, treated, requests, requests - 1, requests - 2, 1, 0, 1.5, 0.25, 0, 0.0)


def test_numbers_are_json_with_the_sums_of_both_arms_by_stage() -> None:
    buckets = (sums(1, treated=True, requests=5), sums(2, treated=True, requests=7), sums(9, treated=False, requests=9))
    because = Because(Reason.INCONCLUSIVE, "success", 3600.0, "wide")
    gate = GateVerdict(
        "success", "guardrail", Outcome.HOLD, because, "points", 0.9, 0.95, 0.05, 0.0, math.inf, 0.01, (2, 1)
    )
    seen = evidence(
        stages=(Stage(10.0, buckets),), exposed=(Exposed(10.0, 2, 1),), users=(2, 1),
        thresholds=Thresholds(1.0, 2.0, 3.0, NOW), brake=Brake("i", "qa_agent", NOW, "{}"),
        hold=Hold("paused", "r", NOW),
    )  # fmt: skip
    told = json.loads(
        json.dumps(numbers_of(seen, verdict(Outcome.HOLD, gates=(gate,), because=(because,)), "0123456789ab"))
    )
    (stage,) = told["stages"]
    assert (stage["finetuned"]["buckets"], stage["finetuned"]["requests"], stage["finetuned"]["ok"]) == (2, 12, 10)
    assert (stage["baseline"]["buckets"], stage["baseline"]["latency"]) == (1, 1.5)
    assert told["reasons"] == [{"reason": "INCONCLUSIVE", "metric": "success", "eta": 3600.0, "detail": "wide"}]
    assert (told["gates"][0]["reason"], told["gates"][0]["clusters"]) == (
        "INCONCLUSIVE(success)",
        {"finetuned": 2, "baseline": 1},
    )
    assert told["gates"][0]["upper"] is None
    assert (told["policy"], told["users"]["baseline"], told["hold"]["kind"]) == ("0123456789ab", 1, "paused")

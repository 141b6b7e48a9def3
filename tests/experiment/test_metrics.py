"""Every gate measures harm: what is worse is more."""

from math import log

import pytest

from proxy.experiment.evidence import BucketSums, Stage
from proxy.experiment.metrics import METRICS, effect_of, margin_of, split, strata
from proxy.policy.config_rollout import GatesConfig

GATES = GatesConfig()
BY_GATE = {metric.gate: metric for metric in METRICS}

GOOD = BucketSums(1, True, 100, 95, 92, 3, 5, 200.0, 0.2, 10, 8.0)
BAD = BucketSums(2, False, 100, 85, 82, 13, 15, 300.0, 0.3, 10, 4.0)


def test_there_is_a_metric_for_every_gate_of_the_policy_in_its_order() -> None:
    assert [metric.gate for metric in METRICS] == list(GatesConfig.model_fields)


@pytest.mark.parametrize(
    ("gate", "harm"),
    [
        ("success", 0.1),
        ("first_attempt", 0.1),
        ("fallback_rate", 0.13 - 0.05),
        ("latency_p95", 0.1),
        ("latency_mean", log(1.5)),
        ("cost", log(1.5)),
        ("feedback", 0.4),
    ],
)
def test_worse_arm_has_positive_harm(gate: str, harm: float) -> None:
    stages = [Stage(50.0, (BAD._replace(treated=True), GOOD._replace(treated=False)))]
    effect = effect_of(BY_GATE[gate], getattr(GATES, gate), strata(BY_GATE[gate], split(stages)))
    assert effect is not None
    assert effect.estimate == pytest.approx(harm)


@pytest.mark.parametrize(
    ("gate", "margin"),
    [
        ("success", 0.01),
        ("first_attempt", 0.02),
        ("fallback_rate", 0.0),
        ("latency_p95", 0.025),
        ("latency_mean", log(1.1)),
        ("cost", 0.0),
        ("feedback", 0.05),
    ],
)
def test_margin_is_the_harm_that_is_tolerated(gate: str, margin: float) -> None:
    assert margin_of(getattr(GATES, gate)) == pytest.approx(margin)


def test_bucket_without_a_rating_is_no_cluster_of_the_feedback() -> None:
    silent = GOOD._replace(bucket=3, rated=0, score=0.0)
    (stratum,) = strata(BY_GATE["feedback"], split([Stage(50.0, (GOOD, silent, BAD))]))
    assert (stratum.treated.buckets, stratum.control.buckets) == ([1], [2])
    (stratum,) = strata(BY_GATE["success"], split([Stage(50.0, (GOOD, silent, BAD))]))
    assert stratum.treated.buckets == [1, 3]


def test_ceiling_looks_at_the_treated_arm_alone_and_at_all_stages() -> None:
    stages = [Stage(10.0, (GOOD, BAD)), Stage(100.0, (GOOD._replace(fallbacks=9),))]
    metric = BY_GATE["fallback_rate"]
    effect = effect_of(metric, GATES.fallback_rate, strata(metric, split(stages)))  # type: ignore[arg-type]
    assert effect is not None
    assert effect.treated == pytest.approx(12 / 200)
    assert effect.control is None

"""Gates on made-up sums: what passes, what fails, what waits, and for how long."""

from typing import Any

import pytest

from proxy.experiment.evidence import BucketSums, Evidence, Stage
from proxy.experiment.gates import Gated, evaluate
from proxy.experiment.verdict import GateVerdict, Outcome, Reason
from proxy.policy.config_rollout import GatesConfig
from tests.support.ramps import DAY, NOW, Traffic, evidence, stage

OFF = dict.fromkeys(GatesConfig.model_fields)


# Margins of the default policy, cost aside; all guard here.
GUARDRAILS: dict[str, dict[str, Any]] = {
    "success": {"kind": "guardrail", "margin": "-1pp"},
    "first_attempt": {"kind": "guardrail", "margin": "-2pp"},
    "fallback_rate": {"kind": "guardrail", "max": "5%"},
    "latency_p95": {"kind": "guardrail", "margin": "+2.5pp"},
    "latency_mean": {"kind": "guardrail", "margin": "+10%"},
    "cost": {"kind": "guardrail", "margin": "+5%"},
    "feedback": {"kind": "guardrail", "margin": -0.05},
}


def gates(**on: dict[str, Any]) -> GatesConfig:
    return GatesConfig.model_validate({**OFF, **on})


def regular(
    percentage: float = 50.0, users: int = 2000, *, treated: dict[str, float] | None = None, **control: float
) -> Stage:
    """Users with 20 requests each, spread over the buckets; the arms' columns are shares of requests.

    Shares are met exactly by giving one request in so many to users in turn.
    """
    rows = []
    for number in range(users):
        bucket = number * 10_000 // users
        is_treated = bucket < percentage * 100
        shares = {**control, **(treated or {})} if is_treated else control
        hit = {name: int((number + 1) * 20 * share) - int(number * 20 * share) for name, share in shares.items()}
        failures, fallbacks = hit.get("failing", 0), hit.get("rescued", 0)
        rows.append(
            BucketSums(
                bucket, is_treated, 20, 20 - failures, 20 - failures - fallbacks, fallbacks, hit.get("slow", 0),
                20 * shares.get("seconds", 1.0) * (0.5 + number % 2), 20 * shares.get("dollars", 0.001), 2,
                2 * shares.get("rating", 0.5) * (0.8 + 0.4 * (number // 2 % 2)),
            )
        )  # fmt: skip
    return Stage(percentage, tuple(rows))


def only(evidence: Evidence, config: GatesConfig) -> Gated:
    (gated,) = evaluate(evidence, config)
    return gated


def judged(gate: str, seen: Evidence, **changes: Any) -> GateVerdict:
    return only(seen, gates(**{gate: {**GUARDRAILS[gate], **changes}})).verdict


LIKE: dict[str, Any] = {"failing": 0.02, "rescued": 0.01, "slow": 0.05, "seconds": 1.0, "dollars": 0.001, "rating": 0.6}
WORSE: dict[str, float] = {
    "failing": 0.06,
    "rescued": 0.10,
    "slow": 0.15,
    "seconds": 1.4,
    "dollars": 0.002,
    "rating": 0.4,
}


@pytest.mark.parametrize("gate", GUARDRAILS)
def test_fine_tune_like_the_baseline_passes(gate: str) -> None:
    verdict, p = only(evidence(regular(**LIKE)), gates(**{gate: GUARDRAILS[gate]}))
    assert (verdict.outcome, verdict.because) == (Outcome.PASS, None)
    assert verdict.upper is not None
    assert verdict.upper < verdict.margin
    assert p is not None
    assert p > 0.05


@pytest.mark.parametrize("gate", GUARDRAILS)
def test_fine_tune_that_is_certainly_worse_fails_a_guardrail(gate: str) -> None:
    verdict, p = only(evidence(regular(treated=WORSE, **LIKE)), gates(**{gate: GUARDRAILS[gate]}))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.because is not None
    assert str(verdict.because) == f"GUARDRAIL_FAIL({gate})"
    assert verdict.lower is not None
    assert verdict.lower > 0
    assert p is not None
    assert p < 0.05


@pytest.mark.parametrize("gate", GUARDRAILS)
def test_signal_never_fails_however_certain_the_harm(gate: str) -> None:
    verdict, p = only(evidence(regular(treated=WORSE, **LIKE)), gates(**{gate: {**GUARDRAILS[gate], "kind": "signal"}}))
    assert verdict.outcome is Outcome.HOLD
    assert verdict.because is not None
    assert str(verdict.because) == f"INCONCLUSIVE({gate})"
    assert "certainly" in verdict.because.detail
    assert "a signal only holds" in verdict.because.detail
    assert p is None


@pytest.mark.parametrize(
    ("gate", "scale", "finetuned", "baseline", "estimate"),
    [
        ("success", "points", 0.94, 0.98, 0.04),
        ("first_attempt", "points", 0.84, 0.97, 0.13),
        ("fallback_rate", "points", 0.10, None, 0.05),
        ("latency_p95", "points", 0.15, 0.05, 0.10),
        ("latency_mean", "relative", 1.4, 1.0, 0.4),
        ("cost", "relative", 0.002, 0.001, 1.0),
        ("feedback", "score", 0.4, 0.6, 0.2),
    ],
)
def test_numbers_are_as_people_read_them(
    gate: str, scale: str, finetuned: float, baseline: float | None, estimate: float
) -> None:
    verdict = judged(gate, evidence(regular(treated=WORSE, **LIKE)))
    assert verdict.scale == scale
    assert verdict.finetuned == pytest.approx(finetuned, rel=0.002)
    assert verdict.baseline == (baseline if baseline is None else pytest.approx(baseline, rel=0.002))
    assert verdict.estimate == pytest.approx(estimate, rel=0.01)


def test_alpha_is_split_over_the_guardrails_that_are_on_and_each_passes_at_the_full_alpha() -> None:
    seen = evidence(regular(**LIKE))
    alone = only(seen, gates(success=GUARDRAILS["success"])).verdict
    signals: dict[str, Any] = {gate: {**GUARDRAILS[gate], "kind": "signal"} for gate in ("cost", "latency_mean")}
    together = evaluate(
        seen, gates(success=GUARDRAILS["success"], first_attempt=GUARDRAILS["first_attempt"], **signals)
    )
    with_signals = evaluate(seen, gates(success=GUARDRAILS["success"], **signals))[0].verdict
    assert together[0].verdict.lower is not None
    assert alone.lower is not None
    assert together[0].verdict.lower < alone.lower
    assert together[0].verdict.upper == alone.upper
    assert with_signals.lower == alone.lower


def test_too_few_users_wait_for_more_and_are_neither_pass_nor_fail() -> None:
    seen = evidence(regular(10.0, 800, treated=WORSE, **LIKE))  # 80 treated
    verdict, p = only(seen, gates(success=GUARDRAILS["success"]))
    assert verdict.outcome is Outcome.HOLD
    assert verdict.because is not None
    assert str(verdict.because) == "INSUFFICIENT_USERS(success)"
    assert verdict.because.detail == "80 of 100 fine-tuned users"
    assert verdict.because.eta == pytest.approx(20 / 80 * 3 * DAY)
    assert p is None


def test_spotless_baseline_does_not_shield_a_fine_tune_that_fails() -> None:
    seen = evidence(regular(10.0, 2000, treated={"failing": 0.1}))
    assert only(seen, gates(success=GUARDRAILS["success"])).verdict.outcome is Outcome.FAIL


@pytest.mark.parametrize(("users", "outcome"), [(2000, Outcome.HOLD), (3200, Outcome.PASS)])
def test_two_spotless_models_pass_once_there_are_three_hundred_users(users: int, outcome: Outcome) -> None:
    verdict = only(evidence(regular(10.0, users)), gates(success=GUARDRAILS["success"])).verdict
    assert verdict.outcome is outcome
    if verdict.because is not None:
        assert verdict.because.detail == "0 of 10 fine-tuned users with a failure"
        assert verdict.because.eta == pytest.approx((299 - 200) / 200 * 3 * DAY)


@pytest.mark.parametrize("gate", ["latency_p95", "latency_mean", "cost"])
def test_what_needs_frozen_thresholds_waits_for_them(gate: str) -> None:
    verdict = judged(gate, evidence(regular(**LIKE), thresholds=None))
    assert verdict.outcome is Outcome.HOLD
    assert verdict.because is not None
    assert verdict.because.reason is Reason.INSUFFICIENT_USERS
    assert verdict.estimate is None


def test_ignored_shortage_passes_and_stays_visible() -> None:
    verdict = judged("feedback", evidence(regular(10.0, 900, **LIKE)), on_insufficient="ignore")
    assert verdict.outcome is Outcome.PASS
    assert str(verdict.because) == "INSUFFICIENT_USERS(feedback)"


def test_stage_with_one_arm_only_is_insufficient() -> None:
    verdict = judged("success", evidence(regular(100.0, **LIKE)))
    assert verdict.because is not None
    assert verdict.because.detail == "no stage has data of both arms"
    assert judged("fallback_rate", evidence(regular(100.0, **LIKE))).outcome is Outcome.PASS


def test_harm_within_the_margin_waits_for_as_long_as_the_bound_needs() -> None:
    traffic = Traffic(4, 4000, per_day=2.0)
    config = gates(success=GUARDRAILS["success"])
    day = traffic.day(50.0)
    early = only(evidence(stage(50.0, day), since=NOW - DAY), config).verdict
    assert early.because is not None
    assert str(early.because) == "INCONCLUSIVE(success)"
    assert early.because.eta is not None
    days = round(early.because.eta / DAY)
    assert 1 <= days < 30
    for _ in range(3 * days):
        day = day.plus(traffic.day(50.0))
    assert only(evidence(stage(50.0, day), since=NOW - (1 + 3 * days) * DAY), config).verdict.outcome is Outcome.PASS


def test_estimate_on_the_wrong_side_of_the_margin_has_no_eta() -> None:
    seen = evidence(stage(50.0, Traffic(4, 300).day(50.0, harm=0.02)))
    verdict = only(seen, gates(success=GUARDRAILS["success"])).verdict
    assert verdict.because is not None
    assert str(verdict.because) == "INCONCLUSIVE(success)"
    assert verdict.because.eta is None


@pytest.mark.parametrize(("harm", "never"), [(0.0, Outcome.FAIL), (0.02, Outcome.PASS)], ids=["as good", "2 pp worse"])
def test_ten_looks_with_heavy_users_neither_fail_what_is_as_good_nor_pass_what_is_worse(
    harm: float, never: Outcome
) -> None:
    """A few ramps; the simulation of many is elsewhere."""
    config = gates(success=GUARDRAILS["success"])
    for seed in range(8):
        traffic = Traffic(seed, 2000, spread=1.0)
        day = traffic.day(25.0, harm=harm)
        for look in range(1, 11):
            found = only(evidence(stage(25.0, day), since=NOW - look * DAY), config).verdict
            assert found.outcome is not never, f"seed {seed}, look {look}: {found}"
            day = day.plus(traffic.day(25.0, harm=harm))

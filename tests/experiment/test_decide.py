"""What is decided from arrays is what `judge` decides bucket by bucket."""

from collections.abc import Mapping
from math import expm1, isfinite
from typing import Any

import numpy as np
import pytest

from proxy.experiment.judge import judge
from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.books import Books, evidence_of, thresholds_of
from proxy.experiment.simulate.decide import Look, Move, decide
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.requests import answered
from proxy.experiment.verdict import Outcome, Verdict
from proxy.policy.config_rollout import RolloutConfig

COURSE = Course(days=7, looks=2)
MOVES = {Outcome.PASS: Move.ON, Outcome.FAIL: Move.STOP, Outcome.HOLD: Move.STAY}
FEW = {"users": 40, "requests": 200}


def rollout_of(**more: Any) -> RolloutConfig:
    steps = [{"percent": percent, "min": FEW} for percent in (20, 50, 100)]
    return RolloutConfig.model_validate(
        {"steps": steps, "gates": {"cost": {"kind": "signal", "margin": "+5%"}}, **more}
    )


def same(look: Look, verdict: Verdict) -> None:
    assert MOVES[verdict.outcome] is look.move, verdict.because
    assert verdict.srm_p == pytest.approx(look.srm_p)
    assert [gate.gate for gate in verdict.gates] == [gate.gate for gate in look.gates]
    for told, seen in zip(verdict.gates, look.gates, strict=True):
        assert MOVES[told.outcome] is seen.move, told
        for there, here in zip((told.estimate, told.lower, told.upper), seen[-3:], strict=True):
            expected = expm1(here) if told.scale == "relative" else here
            assert there is None or not isfinite(here) or there == pytest.approx(expected, rel=1e-6, abs=1e-9)


def compared(traffic: Traffic, effect: Effect, rollout: RolloutConfig, seed: int) -> list[Move]:
    """One ramp; every look is judged both ways."""
    rng = np.random.default_rng(seed)
    crowd = DrawnCrowd(rng, traffic, COURSE.days, COURSE.looks)
    books = Books(crowd.buckets, thresholds_of(crowd.requests(-1, 0)))
    percentages = [step.percent for step in rollout.plan]
    stage = began = 0
    srm_p, p_values, moves = 1.0, dict[str, float](), list[Move]()
    books.begin(percentages[0])
    for number in range(COURSE.days * COURSE.looks):
        requests = crowd.requests(*divmod(number, COURSE.looks))
        books.add(answered(rng, requests, books.finetuned[requests.person], effect, crowd.failing))
        age = (number + 1 - began) * COURSE.seconds
        look = decide(books, rollout, age, srm_p, thorough=True)
        assert decide(books, rollout, age, srm_p).move is look.move
        verdict = judge(evidence_of(books, age, (number + 1) * COURSE.seconds, p_values), rollout)
        same(look, verdict)
        srm_p, p_values = look.srm_p, dict(verdict.p_values)
        moves.append(look.move)
        if look.move is Move.STOP:
            break
        if look.move is Move.ON:
            stage, began = stage + 1, number + 1
            if percentages[stage] == 100:
                break
            books.begin(percentages[stage])
    return moves


SMALL = Traffic(users_per_day=300, requests_per_user=6, success=0.97, heterogeneity=0.04)
EASY: Mapping[str, Any] = {
    name: {"kind": "guardrail", "margin": margin, "min": {"users": 40}}
    for name, margin in (("success", "-4pp"), ("first_attempt", "-6pp"), ("latency_p95", "+9pp"))
}


@pytest.mark.parametrize("seed", range(3))
def test_good_model_is_judged_alike_at_every_look_of_a_ramp_with_two_stages(seed: int) -> None:
    rollout = rollout_of(gates={**EASY, "fallback_rate": {"kind": "guardrail", "max": "9%"}, "cost": None,
                                "latency_mean": {"kind": "signal", "margin": "+30%"}})  # fmt: skip
    moves = compared(SMALL, Effect(rescued=0.02), rollout, seed)
    assert moves.count(Move.ON) == 2, moves


@pytest.mark.parametrize(
    "effect", [Effect(success=-0.12), Effect(rescued=0.2), Effect(latency=0.6), Effect(success=0.02, cost=-0.3)]
)
def test_model_with_an_effect_is_judged_alike(effect: Effect) -> None:
    moves = compared(SMALL, effect, rollout_of(gates=EASY), 7)
    assert (moves[-1] is Move.STOP) == (effect.cost == 0)


def test_spotless_traffic_is_judged_alike() -> None:
    spotless = Traffic(users_per_day=300, success=1.0, heterogeneity=0, cost=0)
    assert Move.STOP not in compared(spotless, Effect(rescued=0), rollout_of(), 1)


def test_too_little_data_is_judged_alike() -> None:
    thin = Traffic(users_per_day=30, requests_per_user=2)
    ignoring = {"success": {"kind": "guardrail", "margin": "-1pp", "on_insufficient": "ignore"}}
    assert set(compared(thin, Effect(), rollout_of(gates=ignoring), 1)) == {Move.STAY}


def test_ramp_that_does_not_settle_goes_back_where_the_policy_says_so() -> None:
    rollout = rollout_of(on_inconclusive={"after": "3d", "action": "rollback"})
    assert compared(SMALL, Effect(), rollout, 1)[-1] is Move.STOP

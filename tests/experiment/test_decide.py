"""What is decided from arrays is what `judge` decides bucket by bucket, at every look."""

from collections.abc import Mapping
from math import expm1, isnan
from typing import Any

import numpy as np
import pytest

from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.books import Books
from proxy.experiment.simulate.decide import Look, Move, decide
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.judged import judged
from proxy.experiment.simulate.trial import End, Trial, run_trial
from proxy.policy.config_rollout import GatesConfig, RolloutConfig

COURSE = Course(days=7, looks=2)
RELATIVE = ("latency_mean", "cost")
FEW = {"users": 40, "requests": 200}


def rollout_of(**more: Any) -> RolloutConfig:
    steps = [{"percent": percent, "min": FEW} for percent in (20, 50, 100)]
    return RolloutConfig.model_validate(
        {"steps": steps, "gates": {"cost": {"kind": "signal", "margin": "+5%"}}, **more}
    )


def compared(books: Books, rollout: RolloutConfig, age: float, srm_p: float, *, thorough: bool) -> Look:
    """A look of both; fails where they differ."""
    there, here = judged(books, rollout, age, srm_p), decide(books, rollout, age, srm_p, thorough=True)
    assert there.move is here.move is decide(books, rollout, age, srm_p).move
    assert there.srm_p == pytest.approx(here.srm_p)
    assert [gate[:3] for gate in there.gates] == [gate[:3] for gate in here.gates]
    for told, seen in zip(there.gates, here.gates, strict=True):
        for number, mine in zip(told[3:], seen[3:], strict=True):
            expected = expm1(mine) if told.gate in RELATIVE else mine
            assert isnan(number) or number == pytest.approx(expected, rel=1e-6, abs=1e-9)
    return here


def ramp(traffic: Traffic, effect: Effect, rollout: RolloutConfig, seed: int) -> Trial:
    rng = np.random.default_rng(seed)
    crowd = DrawnCrowd(rng, traffic, COURSE.days, COURSE.looks)
    return run_trial(rng, crowd, rollout, effect, COURSE, compared)


SMALL = Traffic(users_per_day=300, requests_per_user=6, success=0.97, heterogeneity=0.04)
EASY: Mapping[str, Any] = {
    name: {"kind": "guardrail", "margin": margin, "min": {"users": 40}}
    for name, margin in (("success", "-4pp"), ("first_attempt", "-6pp"), ("latency_p95", "+9pp"))
}


@pytest.mark.parametrize("seed", range(3))
def test_good_model_is_judged_alike_in_both_stages(seed: int) -> None:
    gates = {
        **EASY,
        "fallback_rate": {"kind": "guardrail", "max": "9%"},
        "latency_mean": {"kind": "signal", "margin": "+30%"},
        "cost": None,
    }
    told = ramp(SMALL, Effect(rescued=0.02), rollout_of(gates=gates), seed)
    assert told.end is End.COMPLETED
    assert len(told.stages) == 2


@pytest.mark.parametrize(
    "effect", [Effect(success=-0.12), Effect(rescued=0.2), Effect(latency=0.6), Effect(success=0.02, cost=-0.3)]
)
def test_model_with_an_effect_is_judged_alike(effect: Effect) -> None:
    assert (ramp(SMALL, effect, rollout_of(gates=EASY), 7).end is End.STOPPED) == (effect.cost == 0)


def test_spotless_traffic_without_costs_is_judged_alike() -> None:
    spotless = Traffic(users_per_day=300, success=1.0, heterogeneity=0, cost=0)
    assert ramp(spotless, Effect(rescued=0), rollout_of(), 1).end is End.UNDECIDED


def test_too_little_data_is_judged_alike() -> None:
    thin = Traffic(users_per_day=30, requests_per_user=2)
    gates = {"success": {"kind": "guardrail", "margin": "-1pp", "on_insufficient": "ignore"}}
    assert "success" not in ramp(thin, Effect(), rollout_of(gates=gates), 1).gates


def test_ramp_that_does_not_settle_goes_back_where_the_policy_says_so() -> None:
    rollout = rollout_of(on_inconclusive={"after": "3d", "action": "rollback"})
    told = ramp(SMALL, Effect(), rollout, 1)
    assert (told.end, told.days) == (End.STOPPED, 3.0)


def test_wrong_split_holds() -> None:
    rng = np.random.default_rng(1)
    crowd = DrawnCrowd(rng, SMALL, COURSE.days, COURSE.looks)
    crowd.buckets = crowd.buckets // 2  # the upper half has nobody
    ungated = rollout_of(gates=dict.fromkeys(GatesConfig.model_fields))
    told = run_trial(rng, crowd, ungated, Effect(), COURSE, compared)
    assert (told.end, told.stages) == (End.UNDECIDED, ())


@pytest.mark.parametrize("thorough", [True, False])
def test_failing_gate_is_named_whatever_else_holds(thorough: bool) -> None:
    rng = np.random.default_rng(1)
    seen: list[Look] = []

    def noted(books: Books, rollout: RolloutConfig, age: float, srm_p: float, **_: bool) -> Look:
        seen.append(decide(books, rollout, age, srm_p, thorough=thorough))
        return seen[-1]

    run_trial(rng, DrawnCrowd(rng, SMALL, 7, 2), rollout_of(gates=EASY), Effect(success=-0.3), COURSE, noted)
    assert "success" in seen[-1].named(Move.STOP)

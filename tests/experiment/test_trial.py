"""A ramp goes on, stops, or is undecided; its days and its people are counted."""

from typing import Any

import numpy as np
import pytest

from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.trial import End, Trial, run_trial
from proxy.policy.config_rollout import RolloutConfig

COURSE = Course(days=6, looks=4)
TRAFFIC = Traffic(users_per_day=800, requests_per_user=6)


def trial(effect: Effect, **rollout: Any) -> Trial:
    rng = np.random.default_rng(4)
    config = RolloutConfig.model_validate({"ramp": [20, 50, 100], **rollout})
    return run_trial(rng, DrawnCrowd(rng, TRAFFIC, COURSE.days, COURSE.looks), config, effect, COURSE)


EASY = dict.fromkeys(("cost", "latency_mean", "latency_p95", "fallback_rate", "first_attempt")) | {
    "success": {"kind": "guardrail", "margin": "-5pp"}
}


def test_good_model_takes_every_step_after_its_soak() -> None:
    told = trial(Effect(), gates=EASY)
    assert told.end is End.COMPLETED
    assert told.stages == (1.0, 1.0)
    assert told.days == 2.0
    assert told.exposed == told.people == 800 + 6 * 320


def test_bad_model_stops_early_and_few_people_have_met_it() -> None:
    told = trial(Effect(success=-0.2))
    assert (told.end, told.stages) == (End.STOPPED, ())
    assert told.gates[0] in ("success", "first_attempt")
    assert told.days <= 1
    assert 0 < told.exposed < 250


def test_gate_that_holds_to_the_end_is_named() -> None:
    told = trial(Effect())
    assert (told.end, told.days) == (End.UNDECIDED, 6.0)
    assert "cost" in told.gates


@pytest.mark.parametrize("effect", [Effect(), Effect(success=-0.3)])
def test_last_step_below_all_is_watched_until_the_end(effect: Effect) -> None:
    told = trial(effect, ramp=[20], gates=EASY)
    assert told.end is (End.STOPPED if effect.success else End.COMPLETED)
    assert told.exposed < told.people

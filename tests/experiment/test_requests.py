"""The fine-tune does what its effect says, on average and by intention to treat."""

import numpy as np
import pytest

from proxy.experiment.simulate.assumptions import Effect
from proxy.experiment.simulate.requests import Answers, Requests, answered

SIZE = 400_000
FAILING = 0.05
FINETUNED = np.arange(SIZE) % 2 == 0


def answers(effect: Effect) -> Answers:
    rng = np.random.default_rng(1)
    requests = Requests(np.arange(SIZE), rng.random(SIZE) < FAILING, np.full(SIZE, 2.0), np.full(SIZE, 0.01))
    return answered(rng, requests, FINETUNED, effect, FAILING)


@pytest.mark.parametrize("success", [-0.1, -0.02, 0.0, 0.03])
def test_success_differs_by_the_effect(success: float) -> None:
    told = answers(Effect(success=success, rescued=0.04))
    error = 4 * (0.25 / SIZE * 2 * 2 * (FAILING + 0.1)) ** 0.5
    assert told.ok[FINETUNED].mean() - told.ok[~FINETUNED].mean() == pytest.approx(success, abs=error)
    assert told.rescued[FINETUNED].mean() == pytest.approx(0.04, abs=0.002)
    assert not told.rescued[~FINETUNED].any()
    assert (told.first_ok == (told.ok & ~told.rescued)).all()


def test_latency_and_cost_are_the_finetuned_arms_alone() -> None:
    told = answers(Effect(latency=0.1, cost=-0.5))
    assert set(told.latency[FINETUNED]) == {2.2}
    assert set(told.latency[~FINETUNED]) == {2.0}
    assert set(told.cost[FINETUNED]) == {0.005}


def test_without_an_effect_nothing_changes() -> None:
    told = answers(Effect(rescued=0))
    assert (told.ok == told.first_ok).all()

"""What is promised of a ramp, held against traffic with heavy users: records in, verdict out.

Rows go through the ledger's batches into SQLite, are read as evidence, and judged; the sums are the same in
memory, where ramps by the hundred are judged.  `python -m bench.experiment` does all of it at full size.
Seeds are fixed.  Of 100 ramps with a true chance of 6 % six would be wrong, and none once in 500 times.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

from proxy.experiment.evidence import Stage
from proxy.experiment.simulate.assumptions import Course, Effect
from proxy.experiment.simulate.books import Books, exposed_of, stage_of
from proxy.experiment.simulate.decide import decide
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.judged import judged
from proxy.experiment.simulate.trial import End, Looker, Trial, run_trial
from tests.ledger.records import opened
from tests.support.stored_ramps import (
    GUARDRAILS,
    HEAVY,
    Contamination,
    falling_week,
    hashed,
    independent,
    rollout_of,
    run_stored,
)

COURSE = Course(days=14, looks=4)
AS_GOOD, WORSE = Effect(), Effect(success=-0.02)
RAMP = rollout_of(10, 25, 50, 100)
BOUND = 0.06
EASY = {
    **GUARDRAILS,
    "success": {"kind": "guardrail", "margin": "-5pp"},
    "first_attempt": {"kind": "guardrail", "margin": "-9pp"},
    "fallback_rate": {"kind": "guardrail", "max": "9%"},
    "latency_p95": {"kind": "guardrail", "margin": "+7pp"},
}


def ramps(effect: Effect, number: int, looker: Looker = decide) -> list[Trial]:
    found = []
    for seed in range(number):
        rng = np.random.default_rng(seed)
        found.append(run_trial(rng, DrawnCrowd(rng, HEAVY, COURSE.days, COURSE.looks), RAMP, effect, COURSE, looker))
    return found


def share(trials: list[Trial], true: Callable[[Trial], bool]) -> float:
    return float(fmean(map(true, trials)))


def approx_of(stage: Stage) -> tuple[float, list[tuple[float, ...]]]:
    """Without the last digits, in which sums differ that were added in another order."""
    return stage.percentage, [tuple(round(float(number), 6) for number in sums) for sums in stage.buckets]


def error_of(values: Sequence[float]) -> float:
    """Of their mean, one standard deviation."""
    return stdev(values) / sqrt(len(values))


def stopped(trial: Trial) -> bool:
    return trial.end is End.STOPPED


def went_on(trial: Trial) -> bool:
    return bool(trial.stages)


def test_good_model_is_rarely_rolled_back_where_independent_requests_would_nearly_always() -> None:
    assert share(ramps(AS_GOOD, 100), stopped) <= BOUND
    assert share(ramps(AS_GOOD, 20, independent), stopped) > 0.3


def test_worse_model_rarely_passes() -> None:
    assert share(ramps(WORSE, 100), went_on) <= BOUND


@pytest.mark.parametrize(("effect", "wrong"), [(AS_GOOD, stopped), (WORSE, went_on)])
def test_judge_is_as_rarely_wrong(effect: Effect, wrong: Callable[[Trial], bool]) -> None:
    told = ramps(effect, 5, judged)
    assert not any(map(wrong, told))
    assert told == ramps(effect, 5)


@pytest.mark.parametrize("effect", [Effect(rescued=0.03), Effect(success=-0.12)])
def test_ramp_through_the_store_has_the_sums_and_the_end_of_the_one_in_memory(effect: Effect, tmp_path: Path) -> None:
    course = Course(days=3, looks=2)
    rollout = rollout_of(20, 50, 100, min={"users": 40}, gates=EASY)
    rng = np.random.default_rng(5)
    crowd = hashed(DrawnCrowd(rng, HEAVY, course.days, course.looks))
    with opened(f"sqlite:///{tmp_path / 'store.db'}") as database:
        told, stored = run_stored(rng, crowd, rollout, effect, course, database)
        evidence = stored.evidence(stored.kept[-1][0])
        frozen = [stored.evidence(stage.percentage).thresholds for stage in evidence.stages]

    again = Books(crowd.buckets, stored.thresholds)
    for stage, thresholds in zip(evidence.stages, frozen, strict=True):
        assert thresholds is not None
        again.thresholds = thresholds
        again.begin(stage.percentage)
        for percentage, answers in stored.kept:
            if percentage == stage.percentage:
                again.add(answers)
    for kept, sums in zip(evidence.stages, again.stages, strict=True):
        assert approx_of(kept) == approx_of(stage_of(again, sums))
    assert evidence.exposed == exposed_of(again)
    assert evidence.users == again.users
    assert told.end is (End.STOPPED if effect.success else End.COMPLETED)
    assert sum(sums.requests for stage in evidence.stages for sums in stage.buckets) > 5000


def test_falling_week_is_no_effect() -> None:
    stratified, pooled = zip(*map(falling_week, range(40)), strict=True)
    assert abs(fmean(stratified)) < 0.002
    assert error_of(stratified) < 0.001
    assert fmean(pooled) > 0.005, "stages in one pot would have invented one"


def test_rescue_by_the_baseline_leaves_the_assigned_view_unbiased() -> None:
    told = [Contamination(seed) for seed in range(40)]
    assert abs(fmean(each.harm - each.truth for each in told)) < 0.002
    assert error_of([each.harm - each.truth for each in told]) < 0.001
    assert fmean(each.truth for each in told) < -0.005
    assert fmean(each.without_rescued - each.truth for each in told) < -0.005
    assert fmean(each.as_served - each.truth for each in told) < -0.005

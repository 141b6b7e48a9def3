"""The stratified difference: what it is blind to, what it keeps, and a regression that finds the same."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.experiment.evidence import Stage
from proxy.experiment.metrics import METRICS, split, strata
from proxy.experiment.ramp import Difference, Stratum, difference
from proxy.experiment.ratio import Arm, Moments, moments
from tests.support.ramps import Day, Traffic, stage

SUCCESS = METRICS[0]
NOBODY = Arm([], [], [])


def found_in(strata: Sequence[Stratum], *, relative: bool = False) -> Difference:
    found = difference(strata, relative=relative)
    assert found is not None
    return found


@st.composite
def arms(draw: st.DrawFn, least: int = 2) -> Arm:
    buckets = draw(st.lists(st.integers(0, 30), min_size=least, max_size=12, unique=True))
    n = [float(draw(st.integers(1, 50))) for _ in buckets]
    return Arm(buckets, [draw(st.floats(0.01, 1)) * each for each in n], n)


ramps = st.lists(st.builds(Stratum, arms(), arms()), min_size=1, max_size=4)
few = settings(max_examples=40)


def swapped(ramp: Sequence[Stratum]) -> list[Stratum]:
    return [Stratum(stratum.control, stratum.treated) for stratum in ramp]


@few
@given(ramps, st.booleans(), st.floats(-0.1, 0.1))
def test_swapped_arms_turn_the_sign_and_nothing_else(ramp: list[Stratum], relative: bool, null: float) -> None:
    there, back = found_in(ramp, relative=relative), found_in(swapped(ramp), relative=relative)
    assert back.estimate == pytest.approx(-there.estimate, abs=1e-12)
    assert back.variance() == pytest.approx(there.variance(), rel=1e-9, abs=1e-18)
    assert back.variance(-null) == pytest.approx(there.variance(null), rel=1e-9, abs=1e-18)
    assert (back.arms, back.clusters) == (there.arms[::-1], there.clusters)


@few
@given(ramps, st.sampled_from([None, 0.0, 0.1]))
def test_relative_difference_is_the_same_in_seconds_and_in_milliseconds(
    ramp: list[Stratum], null: float | None
) -> None:
    def scaled(arm: Arm) -> Arm:
        return arm._replace(y=[1000 * y for y in arm.y])

    seconds = found_in(ramp, relative=True)
    milliseconds = found_in([Stratum(*map(scaled, stratum)) for stratum in ramp], relative=True)
    assert milliseconds.estimate == pytest.approx(seconds.estimate, abs=1e-9)
    assert milliseconds.variance(null) == pytest.approx(seconds.variance(null), rel=1e-9)


@few
@given(ramps, st.integers(1, 9))
def test_sums_of_two_proxies_say_what_the_sums_of_one_do(ramp: list[Stratum], tenths: int) -> None:
    def shared(arm: Arm) -> Arm:  # as rows of their own, and no more clusters for it
        share = tenths / 10
        y = [each * part for part in (share, 1 - share) for each in arm.y]
        n = [each * part for part in (share, 1 - share) for each in arm.n]
        return Arm([*arm.buckets, *arm.buckets], y, n)

    one, two = found_in(ramp), found_in([Stratum(*map(shared, stratum)) for stratum in ramp])
    assert two.estimate == pytest.approx(one.estimate, abs=1e-12)
    assert two.variance(0.01) == pytest.approx(one.variance(0.01), rel=1e-9, abs=1e-18)
    assert (two.arms, two.clusters) == (one.arms, one.clusters)


@few
@given(arms(), arms())
def test_one_stage_is_the_plain_difference_of_two_rates(treated: Arm, control: Arm) -> None:
    control = control._replace(buckets=[bucket + 100 for bucket in control.buckets])
    found = found_in([Stratum(treated, control)])
    sides: list[Moments] = [moments(zip(arm.y, arm.n, strict=True)) for arm in (treated, control)]
    assert found.estimate == pytest.approx(sides[0].ratio - sides[1].ratio)
    assert found.variance() == pytest.approx(sum(each.variance() * (each.k - 1) / each.k for each in sides), abs=1e-15)


def test_difference_and_variance_are_those_of_a_cluster_robust_regression() -> None:
    """Least squares with a mean per stage and arm, clustered by bucket, most of which change arm between stages."""
    traffic = Traffic(3, 400, spread=2.0)
    percentages = (10.0, 40.0, 70.0)
    data = strata(SUCCESS, split([stage(percentage, traffic.day(percentage, harm=0.03)) for percentage in percentages]))
    found = found_in(data)
    cells = [
        (2 * s + side, *row)
        for s, both in enumerate(data)
        for side, arm in enumerate(both)
        for row in zip(*arm, strict=True)
    ]
    cell, bucket, y, n = (np.array(column) for column in zip(*cells, strict=True))
    design = (cell[:, None] == np.arange(6)).astype(float)
    fitted = sm.WLS(y / n, design, weights=n).fit(
        cov_type="cluster", cov_kwds={"groups": bucket, "use_correction": False}
    )
    weights = np.array(found.weights) / sum(found.weights)
    contrast = np.ravel(np.column_stack([weights, -weights]))
    assert found.estimate == pytest.approx(contrast @ fitted.params)
    assert found.variance() == pytest.approx(contrast @ fitted.cov_params() @ contrast)


def test_relative_variance_is_the_delta_methods() -> None:
    random = np.random.default_rng(11)
    treated, control = (
        Arm(range(start, start + 300), random.gamma(3, 1, 300).tolist(), random.integers(1, 9, 300).tolist())
        for start in (0, 300)
    )
    plain, found = found_in([Stratum(treated, control)]), found_in([Stratum(treated, control)], relative=True)
    assert found.estimate == pytest.approx(log(plain.treated / plain.control))
    sides = [moments(zip(arm.y, arm.n, strict=True)) for arm in (treated, control)]
    assert found.variance() == pytest.approx(sum(each.variance() / each.ratio**2 for each in sides), rel=0.01)
    assert found.treated / found.control == pytest.approx(exp(found.estimate))


def test_bucket_that_moves_to_the_fine_tune_is_one_cluster() -> None:
    ramp = [
        Stratum(Arm([1], [1.0], [10.0]), Arm([2, 3], [1.0, 0.0], [10.0, 10.0])),
        Stratum(Arm([1, 2], [2.0, 1.0], [10.0, 10.0]), Arm([3], [0.0], [10.0])),
    ]
    found = found_in(ramp)
    assert (found.clusters, found.arms) == (3, (2, 2))
    # Both stages weigh alike. Bucket 2: −(1 − 0.05·10)/20 as control, +(1 − 0.15·10)/20 as treated.
    assert found.variance() == pytest.approx(0.25 * sum(psi**2 for psi in (0 + 0.025, -0.025 - 0.025, 0.025 + 0)))


def test_stages_with_one_arm_contribute_nothing() -> None:
    both = Stratum(Arm([1, 2], [1.0, 0.0], [5.0, 5.0]), Arm([3, 4], [0.0, 0.0], [5.0, 5.0]))
    alone = [Stratum(NOBODY, Arm([1], [3.0], [9.0])), both, Stratum(Arm([3], [3.0], [9.0]), NOBODY)]
    found = found_in(alone)
    assert found.weights == (0.0, 2 * 2.5, 0.0)
    assert replace(found, weights=(), strata=(), totals=()) == replace(
        found_in([both]), weights=(), strata=(), totals=()
    )
    assert found.variance(0.01) == found_in([both]).variance(0.01)
    assert difference(alone[::2]) is None
    assert difference([]) is None


@pytest.mark.parametrize("free_arm", ["treated", "control"])
def test_model_that_costs_nothing_still_has_a_relative_cost(free_arm: str) -> None:
    paid, free = Arm([1, 2], [1.0, 2.0], [5.0, 5.0]), Arm([3, 4], [0.0, 0.0], [5.0, 5.0])
    found = found_in([Stratum(free, paid) if free_arm == "treated" else Stratum(paid, free)], relative=True)
    assert found.estimate == pytest.approx(-log(1000) if free_arm == "treated" else log(1000))
    assert found.variance(0.0) > 0


def test_stage_without_any_cost_says_nothing_about_cost() -> None:
    free = Arm([1, 2], [0.0, 0.0], [5.0, 5.0])
    assert difference([Stratum(free, free)], relative=True) is None


def falling_week(seed: int) -> list[Stage]:
    """The share of the fine-tune rises while everybody's failures do; the fine-tune is as good as the baseline."""
    traffic = Traffic(seed, 3000)
    days: list[tuple[float, Day]] = [
        (percentage, traffic.day(percentage, 2.0, worse=worse))
        for percentage, worse in ((10.0, 0.0), (25.0, 0.02), (50.0, 0.05))
    ]
    return [stage(percentage, day) for percentage, day in days]


def test_falling_week_is_no_effect_although_it_is_one_when_stages_are_pooled() -> None:
    estimates, pooled, errors = [], [], []
    for seed in range(12):
        data = strata(SUCCESS, split(falling_week(seed)))
        found = found_in(data)
        estimates.append(found.estimate)
        errors.append(sqrt(found.variance()))
        totals = [[sum(sum(stratum[side][column]) for stratum in data) for column in (1, 2)] for side in (0, 1)]
        pooled.append(totals[0][0] / totals[0][1] - totals[1][0] / totals[1][1])
    assert abs(np.mean(estimates)) < 0.002
    assert np.mean(pooled) > 0.008
    assert np.std(estimates) == pytest.approx(np.mean(errors), rel=0.6)  # the variance is the estimate's

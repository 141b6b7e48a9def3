"""A rate of one arm and its clustered variance; golden numbers of STATISTICS.md."""

import numpy as np
import pytest
import statsmodels.api as sm

from proxy.experiment.ratio import Arm, Moments, excess, moments

CONTROL = Moments(400, 2201, 2305, 14065, 15275, 14569)
TREATMENT = Moments(120, 643, 710, 4149, 4900, 4453)


def test_golden_variances_and_difference() -> None:
    assert CONTROL.variance() == pytest.approx(3.196148686e-5, rel=1e-9)
    assert TREATMENT.variance() == pytest.approx(2.0458329294e-4, rel=1e-9)
    assert TREATMENT.ratio - CONTROL.ratio == pytest.approx(-0.0492468913, abs=5e-11)


def test_variance_is_what_a_cluster_robust_regression_finds() -> None:
    random = np.random.default_rng(5)
    n = random.integers(1, 40, 150).astype(float)
    y = random.binomial(n.astype(int), random.beta(2, 20, 150)).astype(float)
    fitted = sm.WLS(y / n, np.ones(150), weights=n).fit(cov_type="cluster", cov_kwds={"groups": np.arange(150)})
    found = moments(zip(y, n, strict=True))
    assert found.ratio == pytest.approx(fitted.params[0])
    assert found.variance() == pytest.approx(fitted.cov_params()[0, 0])


def test_one_heavy_user_counts_as_one_however_many_requests_it_sends() -> None:
    light = [(float(i % 2), 1.0) for i in range(1000)]
    one, many = [(100.0, 100.0)], [(1.0, 1.0)] * 100
    assert moments(light + one).ratio == moments(light + many).ratio
    assert moments(light + one).variance() > 5 * moments(light + many).variance()


def test_one_bucket_alone_says_nothing() -> None:
    assert moments([(3.0, 10.0)]).variance() == float("inf")


def test_residuals_from_a_level_are_never_smaller_than_those_from_the_ratio() -> None:
    assert CONTROL.variance(0.9) > CONTROL.variance()


def test_excess_adds_up_a_bucket_over_the_stages_before_it_is_squared() -> None:
    first, second = Arm([1, 2], [1.0, 0.0], [10.0, 10.0]), Arm([2, 3], [3.0, 1.0], [10.0, 20.0])
    found = excess([first, second], 0.05)
    assert found is not None
    assert found.sums == moments([(1, 10), (3, 20), (1, 20)])
    assert found.treated == pytest.approx(0.1)
    assert found.estimate == pytest.approx(0.05)
    assert (found.clusters, found.arms, found.weights) == (3, (3, 0), (20.0, 30.0))
    assert found.variance(0.0) == found.sums.variance(0.05)


def test_no_data_is_no_excess() -> None:
    assert excess([Arm([], [], [])], 0.05) is None

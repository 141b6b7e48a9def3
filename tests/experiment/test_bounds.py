"""Always-valid bounds and p-values; golden numbers of STATISTICS.md."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.experiment.bounds import one_sided, p_value, p_value_above, two_sided

VARIANCE = 3.196148686036325e-5 + 2.0458329294119682e-4
DIFFERENCE = -0.049246891326265585
CLUSTERS, PLANNED = 520, 1000


def test_golden_two_sided_interval_and_p_value() -> None:
    half = two_sided(VARIANCE, CLUSTERS, planned=PLANNED)
    assert DIFFERENCE - half == pytest.approx(-0.0965859948, abs=5e-11)
    assert DIFFERENCE + half == pytest.approx(-0.0019077879, abs=5e-11)
    assert p_value(DIFFERENCE, VARIANCE, CLUSTERS, planned=PLANNED) == pytest.approx(0.0365434173, abs=5e-11)


@pytest.mark.parametrize(("alpha", "half"), [(0.05, 0.0435733152), (0.025, 0.0474744979), (0.01, 0.0522083786)])
def test_golden_one_sided_half_widths(alpha: float, half: float) -> None:
    assert one_sided(VARIANCE, CLUSTERS, alpha, PLANNED) == pytest.approx(half, abs=5e-11)


variances = st.floats(1e-9, 1.0)
alphas = st.floats(0.001, 0.2)


@given(st.floats(-3, 3), variances, st.integers(1, 20_000), alphas)
def test_p_value_is_below_alpha_where_the_interval_excludes_the_null(
    distance: float, variance: float, n: int, alpha: float
) -> None:
    half = two_sided(variance, n, alpha)
    p = p_value(distance, variance, n, alpha)
    assert 0 <= p <= 1
    assert p == p_value(-distance, variance, n, alpha)
    if abs(abs(distance) - half) > 1e-6 * half:
        assert (p < alpha) == (abs(distance) > half)


@given(st.floats(-3, 3), variances, st.integers(1, 20_000), alphas)
def test_one_sided_p_value_is_below_alpha_where_the_bound_excludes_the_null(
    distance: float, variance: float, n: int, alpha: float
) -> None:
    half = one_sided(variance, n, alpha)
    p = p_value_above(distance, variance, n, alpha)
    assert 0 <= p <= 1
    if abs(distance - half) > 1e-6 * half:
        assert (p < alpha) == (distance > half)


@given(variances, st.integers(100, 20_000))
def test_one_side_costs_less_than_two_and_a_stricter_alpha_more(variance: float, n: int) -> None:
    assert one_sided(variance, n) < two_sided(variance, n) < two_sided(variance, n, 0.01)


def test_no_clusters_no_bound_and_no_variance_no_width() -> None:
    assert two_sided(0.1, 0) == one_sided(0.1, 0) == math.inf
    assert two_sided(0.0, 10) == one_sided(0.0, 10) == 0
    assert (p_value(0.0, 0.0, 10), p_value(0.1, 0.0, 10)) == (1.0, 0.0)
    assert (p_value_above(-0.1, 0.0, 10), p_value_above(0.1, 0.0, 10)) == (1.0, 0.0)
    assert (p_value(1e6, 1e-9, 10), p_value_above(1e6, 1e-9, 10)) == (0.0, 0.0)


def test_looking_after_every_cluster_keeps_the_error_where_it_was_asked_for() -> None:
    random = np.random.default_rng(7)
    n = np.arange(50, 3000)
    sums = random.standard_normal((1000, 3000)).cumsum(axis=1)[:, 50:]
    halves = np.array([two_sided(1 / int(k), int(k)) for k in n])
    naive = 1.96 / np.sqrt(n)
    assert np.mean(np.any(np.abs(sums / n) > halves, axis=1)) <= 0.05
    assert np.mean(np.any(np.abs(sums / n) > naive, axis=1)) > 0.3

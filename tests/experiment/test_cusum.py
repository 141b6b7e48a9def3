"""The brake trips within ten requests of an outage, and on nothing that is normal."""

import math
from random import Random

import pytest

from proxy.experiment.cusum import Cusum, rates, threshold

TRIPS = threshold(100_000.0)


def requests_until_trip(failure_rate: float, p0: float, p1: float, limit: int, seed: int = 0) -> int | None:
    cusum, random = Cusum(), Random(seed)
    for number in range(1, limit + 1):
        if cusum.add(random.random() < failure_rate, p0, p1) >= TRIPS:
            return number
    return None


def test_threshold_is_the_logarithm_of_the_odds() -> None:
    assert round(TRIPS, 1) == 11.5


@pytest.mark.parametrize(
    ("failures", "calls", "p0", "p1"),
    [
        (0, 0, 0.02, 0.08),  # nothing known: the floor
        (0, 1000, 0.02, 0.08),
        (10, 1000, 0.02, 0.08),  # twice the baseline's rate is the floor
        (50, 1000, 0.10, 0.40),
        (100, 1000, 0.20, 0.50),  # p1 is at most one half
    ],
)
def test_rates_follow_the_baseline_above_the_floor(failures: int, calls: int, p0: float, p1: float) -> None:
    assert rates(failures, calls, 0.02) == pytest.approx((p0, p1))


@pytest.mark.parametrize("baseline", [0.0, 0.01, 0.05])
def test_total_outage_trips_in_nine_requests(baseline: float) -> None:
    assert requests_until_trip(1.0, *rates(baseline * 1000, 1000, 0.02), limit=100) == 9


def test_outage_trips_as_fast_after_a_week_without_failures() -> None:
    cusum, (p0, p1) = Cusum(), rates(10, 1000, 0.02)
    for _ in range(10_000):
        assert cusum.add(False, p0, p1) == 0
    assert [cusum.add(True, p0, p1) >= TRIPS for _ in range(9)] == [False] * 8 + [True]


def test_total_adds_the_log_likelihood_ratio_and_never_falls_below_zero() -> None:
    cusum = Cusum()
    assert cusum.add(True, 0.02, 0.08) == pytest.approx(math.log(4))
    assert cusum.add(False, 0.02, 0.08) == pytest.approx(math.log(4) + math.log(0.92 / 0.98))
    for _ in range(30):
        cusum.add(False, 0.02, 0.08)
    assert cusum.total == 0


def test_failures_at_the_normal_rate_do_not_trip_in_a_hundred_thousand_requests() -> None:
    assert requests_until_trip(0.01, 0.02, 0.08, limit=100_000) is None


def test_a_spotless_baseline_without_a_floor_does_not_switch_the_brake_off() -> None:
    assert requests_until_trip(1.0, *rates(0, 1000, 0.0), limit=100) == 9


@pytest.mark.parametrize("baseline", [0.25, 0.5, 1.0])
def test_where_both_arms_are_dead_it_never_trips(baseline: float) -> None:
    assert requests_until_trip(1.0, *rates(baseline * 1000, 1000, 0.02), limit=1000) is None

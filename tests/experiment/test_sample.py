"""Enough users, enough events, and how long until then."""

import pytest
from scipy.stats import binom

from proxy.experiment.ratio import Arm
from proxy.experiment.sample import (
    Side,
    clusters_until_surprising,
    is_surprising,
    joined,
    too_few_events,
    too_few_users,
    until,
)

DAY = 86400.0


def side(clusters: int, events: int = 0, capacity: int = 10_000, *, now: int | None = None) -> Side:
    """`now` buckets of all are the current stage's; by default all of them."""
    arm = Arm(range(clusters), [float(i < events) for i in range(clusters)], [5.0] * clusters)
    current = Arm(range(now), [float(i < events) for i in range(now)], [5.0] * now) if now is not None else arm
    return Side([arm], current, capacity)


def test_enough_users_in_both_arms_is_no_shortage() -> None:
    assert too_few_users([side(100), side(100)], 100, DAY) is None


def test_missing_users_take_as_long_as_the_slower_arm() -> None:
    found = too_few_users([side(50), side(80)], 100, DAY)
    assert found == ("50 of 100 fine-tuned users, 80 of 100 baseline users", DAY)


def test_only_what_came_in_the_current_stage_tells_how_fast_users_come() -> None:
    found = too_few_users([side(75, now=5), side(200)], 100, DAY)
    assert found is not None
    assert found.eta == pytest.approx(5 * DAY)


@pytest.mark.parametrize(
    ("missing_side", "age"),
    [(side(50, now=0), DAY), (side(50), None), (side(50, capacity=90), DAY)],
    ids=["nobody comes", "no stage yet", "the arm has no more buckets"],
)
def test_nobody_can_say_how_long_it_takes(missing_side: Side, age: float | None) -> None:
    found = too_few_users([missing_side, side(200)], 100, age)
    assert found is not None
    assert found.eta is None


def test_ten_users_with_an_event_are_enough() -> None:
    assert too_few_events([side(100, 10), side(100, 10)], 10, "failure", 0.03, DAY) is None


def test_few_events_are_not_enough_where_few_had_to_be_expected() -> None:
    found = too_few_events([side(100, 1), side(100, 20)], 10, "failure", 0.01, DAY)
    assert found is not None
    assert found.detail == "1 of 10 fine-tuned users with a failure"
    assert found.eta == pytest.approx(min(9 * DAY, (473 - 100) / 100 * DAY))


def test_model_that_never_fails_need_not_wait_for_failures() -> None:
    assert too_few_events([side(298), side(298)], 10, "failure", 0.01, DAY) is not None
    assert too_few_events([side(299), side(299)], 10, "failure", 0.01, DAY) is None


@pytest.mark.parametrize("events", [0, 1, 5])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_surprise_is_the_binomials_lower_tail(events: int, rate: float) -> None:
    least = clusters_until_surprising(events, rate)
    assert least is not None
    assert binom.cdf(events, least, rate) <= 0.05 < binom.cdf(events, least - 1, rate)
    assert is_surprising(events, least, rate)
    assert not is_surprising(events, least - 1, rate)


def test_no_number_of_events_is_surprisingly_low_for_a_rate_of_nothing() -> None:
    assert not is_surprising(0, 10_000, 0.0)
    assert clusters_until_surprising(0, 0.0) is None


def test_wait_is_missing_over_rate() -> None:
    assert until(10, 5, DAY) == 2 * DAY
    assert until(0, 0, None) == 0
    assert until(10, 0, DAY) is None


def test_nothing_missing_joins_to_nothing() -> None:
    assert joined([]) is None

"""The retry budget over a clock that is passed in.  ACCEPTANCE 14 and 17: DESIGN §1, "bounded attempts"."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.breaker import RESERVE_SECONDS, RetryBudget


class Wish(NamedTuple):
    """One request, `pause` seconds after the one before, and how often it asks for a retry."""

    pause: float
    retries: int


wishes = st.lists(st.builds(Wish, st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, 100.0]), st.integers(0, 4)), max_size=60)
ratios = st.sampled_from([0.0, 0.1, 0.2, 1.0])
minima = st.integers(0, 5)


def granted(budget: RetryBudget, now: float, minimum: int, asked: int) -> int:
    return sum(budget.withdraw(now, minimum) for _ in range(asked))


def burst(ratio: float, minimum: int) -> float:
    """The most that may have been saved up."""
    return max(minimum * RESERVE_SECONDS, 100 * ratio) + minimum


@given(wishes, ratios, minima)
def test_retries_never_exceed_ratio_and_minimum_and_what_was_saved(
    wishes: list[Wish], ratio: float, minimum: int
) -> None:
    budget = RetryBudget()
    now = 1000.0
    history: list[tuple[float, int]] = []  # at, retries granted
    for wish in wishes:
        now += wish.pause
        budget.deposit(ratio, minimum)
        history.append((now, granted(budget, now, minimum, wish.retries)))
    for first in range(len(history)):
        window = history[first:]
        spent = sum(count for _, count in window)
        earned = len(window) * ratio + (window[-1][0] - window[0][0]) * minimum
        assert spent <= earned + burst(ratio, minimum) + 1e-6


@pytest.mark.parametrize("minimum", [1, 3, 10])
@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_minimum_is_granted_every_second_however_few_requests_there_are(minimum: int, start: float) -> None:
    budget = RetryBudget()
    for second in range(30):
        assert granted(budget, start + second, minimum, minimum) == minimum, second


def test_dead_upstream_gets_the_ratio_of_the_requests_and_no_more() -> None:
    """Every request asks for a retry: a storm is what the budget is there to prevent."""
    budget = RetryBudget()
    requests, seconds, ratio, minimum = 20_000, 20.0, 0.2, 3
    spent = 0
    for number in range(requests):
        budget.deposit(ratio, minimum)
        spent += budget.withdraw(number / requests * seconds, minimum)
    expected = requests * ratio + seconds * minimum
    assert expected * 0.95 <= spent <= expected + burst(ratio, minimum)


def test_without_ratio_and_minimum_there_is_no_retry() -> None:
    budget = RetryBudget()
    for second in range(100):
        budget.deposit(0.0, 0)
        assert not budget.withdraw(float(second), 0)


def test_ratio_alone_grants_one_retry_in_so_many_requests() -> None:
    budget = RetryBudget()
    spent = 0
    for _ in range(100):
        budget.deposit(0.25, 0)
        spent += budget.withdraw(0.0, 0)
    assert spent == 25


def test_saved_up_retries_are_bounded_however_long_it_is_quiet() -> None:
    budget = RetryBudget()
    budget.withdraw(0.0, 3)
    for _ in range(100_000):
        budget.deposit(0.2, 3)
    assert granted(budget, 1e6, 3, 1000) <= burst(0.2, 3)


def test_policy_that_lowers_the_minimum_takes_effect() -> None:
    budget = RetryBudget()
    for second in range(60):
        budget.deposit(0.0, 50)
        budget.withdraw(float(second), 50)
    budget.deposit(0.0, 1)  # the ceiling is now ten
    assert granted(budget, 60.0, 1, 1000) <= burst(0.0, 1)

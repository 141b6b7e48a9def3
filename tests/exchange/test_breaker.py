"""The breaker, as a state machine over a clock that is passed in.  ACCEPTANCE 16."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.exchange.breaker import Breaker
from proxy.policy.snapshot import BreakerPolicy

POLICY = BreakerPolicy(failures=3, window=10.0, open=5.0)


def opened(now: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker()
    fail(breaker, *[now] * POLICY.failures)
    assert breaker.is_open
    return breaker


def fail(breaker: Breaker, *times: float) -> None:
    for now in times:
        breaker.failed(now, POLICY)


# --- opening ----------------------------------------------------------------------------------------


def test_new_breaker_is_closed() -> None:
    breaker = Breaker()
    assert breaker.allow(0.0)
    assert not breaker.is_open


def test_opens_at_the_last_of_the_failures_in_a_row() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, 1.0)
    assert breaker.allow(1.0)
    fail(breaker, 2.0)
    assert not breaker.allow(2.0)
    assert breaker.is_open


def test_success_in_between_starts_the_row_again() -> None:
    breaker = Breaker()
    for now in range(20):
        fail(breaker, now * 0.1, now * 0.1)
        breaker.succeeded()
        assert not breaker.is_open


def test_abandoned_call_neither_counts_nor_forgives() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, 0.1)
    breaker.abandoned()
    assert not breaker.is_open
    fail(breaker, 0.2)
    assert breaker.is_open


def test_failures_further_apart_than_the_window_never_open_it() -> None:
    breaker = Breaker()
    for call in range(100):
        fail(breaker, call * 6.0)  # any three of them span twelve seconds
        assert not breaker.is_open


@pytest.mark.parametrize(
    "times", [(0.0, 5.0, 10.0), (0.0, 9.0, 11.0, 12.0), (0.0, 8.0, 17.9, 17.9), (0.0, 20.0, 29.0, 30.0)]
)
def test_failures_in_a_row_within_any_window_open_it(times: tuple[float, ...]) -> None:
    """The window slides: failures before it do not hide those within."""
    breaker = Breaker()
    fail(breaker, *times)
    assert breaker.is_open


# --- probing ----------------------------------------------------------------------------------------


def test_one_probe_once_the_interval_is_over() -> None:
    breaker = opened()
    assert not breaker.allow(4.99)
    assert breaker.allow(5.0)
    assert not any(breaker.allow(now) for now in (5.0, 5.1, 6.0, 100.0))
    assert breaker.is_open


def test_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    assert breaker.allow(5.0)
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.allow(5.0)
    assert breaker.allow(5.0)


def test_after_recovery_it_takes_the_full_row_to_open_again() -> None:
    breaker = opened()
    assert breaker.allow(5.0)
    breaker.succeeded()
    fail(breaker, 5.1, 5.2)
    assert not breaker.is_open


def test_probe_that_fails_waits_for_another_interval() -> None:
    breaker = opened()
    assert breaker.allow(6.0)
    fail(breaker, 7.0)
    assert not breaker.allow(11.99)
    assert breaker.allow(12.0)


def test_probe_whose_client_left_is_made_by_the_next_call() -> None:
    breaker = opened()
    assert breaker.allow(5.0)
    breaker.abandoned()
    assert breaker.is_open
    assert breaker.allow(5.0)
    assert not breaker.allow(5.0)


# --- calls that began before it opened --------------------------------------------------------------
# A stream may run for minutes; what it says at its end is about the model as it was at its start.


def test_stream_begun_before_the_opening_does_not_close_it() -> None:
    breaker = opened()
    breaker.succeeded()
    assert not breaker.allow(1.0)


def test_failures_begun_before_the_opening_do_not_put_off_the_probe() -> None:
    breaker = opened()
    fail(breaker, 1.0, 4.0)
    assert breaker.allow(5.0)


# --- any history ------------------------------------------------------------------------------------


class AnyHistory(RuleBasedStateMachine):
    """Calls one after another; the model keeps the failures since the last success, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.row: list[float] = []  # times of the failures in a row, while closed
        self.opened_at: float | None = None
        self.probing = False

    @rule(seconds=st.sampled_from([0.0, 0.001, 1.0, 4.9, 5.0, 9.9, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(result=st.sampled_from(["succeeded", "failed", "abandoned", "pending"]))
    @precondition(lambda self: not self.probing)
    def call(self, result: str) -> None:
        may_probe = self.opened_at is not None and self.now >= self.opened_at + POLICY.open
        assert self.breaker.allow(self.now) == (self.opened_at is None or may_probe)
        if self.opened_at is not None and not may_probe:
            return
        self.probing = may_probe
        if result != "pending":
            self.report(result)

    @rule(result=st.sampled_from(["succeeded", "failed", "abandoned"]))
    @precondition(lambda self: self.probing)
    def probe_reports(self, result: str) -> None:
        assert not self.breaker.allow(self.now)
        self.report(result)

    def report(self, result: str) -> None:
        if result == "succeeded":
            self.breaker.succeeded()
            self.row, self.opened_at = [], None
        elif result == "abandoned":
            self.breaker.abandoned()
        else:
            self.breaker.failed(self.now, POLICY)
            self.row.append(self.now)
            if self.probing or self.must_be_open() or (self.may_be_open() and self.breaker.is_open):
                self.opened_at = self.now
        self.probing = False

    def must_be_open(self) -> bool:
        """Two rows of failures in one window: more than enough however the window is cut."""
        last = self.row[-2 * POLICY.failures + 1 :]
        return len(last) >= 2 * POLICY.failures - 1 and last[-1] - last[0] <= POLICY.window

    def may_be_open(self) -> bool:
        last = self.row[-POLICY.failures :]
        return len(last) >= POLICY.failures and last[-1] - last[0] <= POLICY.window

    @invariant()
    def is_open_only_for_a_reason(self) -> None:
        assert self.breaker.is_open == (self.opened_at is not None)


TestAnyHistory: Any = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

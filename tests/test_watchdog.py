"""The lazy timer, over a loop whose clock is set by hand."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.watchdog import HELD_UP, NEVER, SECOND_LOOK, TICK, Watchdog


class Timer(NamedTuple):
    """What `call_at` gives back."""

    when: float
    callback: Callable[[], None]
    timers: list["Timer"]

    def cancel(self) -> None:
        self.timers.remove(self)


class SetClock:
    """As much of a loop as has to do with time.  Like uvloop's, a timer may look a moment early."""

    def __init__(self, early: float) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.started = 0
        self._early = early

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback, self.timers)
        self.timers.append(timer)
        self.started += 1
        assert self.started < 10_000, "the timer spins"
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and every timer that is due fire at its time."""
        until = self.now + seconds
        while self.timers:
            timer = min(self.timers, key=lambda timer: timer.when)
            if timer.when - self._early > until:
                break
            timer.cancel()
            self.now = max(self.now, timer.when - self._early)
            timer.callback()
        self.now = until


class Dog:
    """A watchdog, its clock, and when it barked."""

    def __init__(self, early: float = 0.0) -> None:
        self.clock = SetClock(early)
        self.barks: list[float] = []
        self.watchdog = self.watch(lambda: self.barks.append(self.clock.now))

    def watch(self, expired: Callable[[], None]) -> Watchdog:
        return Watchdog(cast("asyncio.AbstractEventLoop", self.clock), expired)


@pytest.fixture
def dog() -> Dog:
    return Dog()


def test_expires_once_at_the_deadline(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    dog.clock.advance(4.9)
    assert dog.barks == []
    dog.clock.advance(100.0)
    assert dog.barks == [5.0]


def test_without_a_deadline_it_never_expires(dog: Dog) -> None:
    dog.clock.advance(1e9)
    assert dog.barks == []
    assert dog.clock.started == 0


def test_deadline_moved_later_is_the_one_that_counts(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    dog.clock.advance(4.0)
    dog.watchdog.set(9.0)
    dog.clock.advance(100.0)
    assert dog.barks == [9.0]


def test_deadline_moved_earlier_is_the_one_that_counts(dog: Dog) -> None:
    dog.watchdog.set(9.0)
    dog.watchdog.set(2.0)
    dog.clock.advance(100.0)
    assert dog.barks == [2.0]


def test_deadline_in_the_past_expires_at_once(dog: Dog) -> None:
    dog.clock.advance(10.0)
    dog.watchdog.set(9.95)
    dog.clock.advance(0.0)
    assert dog.barks == [10.0]


def test_process_that_was_held_up_looks_a_second_time_before_it_expires(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    dog.clock.now = 7.0
    dog.clock.advance(0.0)
    assert dog.barks == []
    dog.clock.advance(100.0)
    assert dog.barks == [7.0 + SECOND_LOOK]


def test_what_moves_the_deadline_before_the_second_look_saves_the_connection(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    dog.clock.now = 7.0
    dog.clock.advance(0.0)
    dog.watchdog.set(12.0)  # an answer was in the socket
    dog.clock.advance(4.0)
    assert dog.barks == []
    dog.clock.now = 15.0  # held up again: once more it may look twice
    dog.clock.advance(0.0)
    assert dog.barks == []
    dog.clock.advance(SECOND_LOOK)
    assert dog.barks == [15.0 + SECOND_LOOK]


def test_process_that_is_held_up_all_the_time_expires_all_the_same(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    for _ in range(2):
        dog.clock.now += 2 * HELD_UP + 5.0
        dog.clock.advance(0.0)
    assert len(dog.barks) == 1


def test_deadline_of_never_disarms(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    dog.watchdog.set(NEVER)
    dog.clock.advance(100.0)
    assert dog.barks == []


def test_armed_again_after_it_expired(dog: Dog) -> None:
    dog.watchdog.set(1.0)
    dog.clock.advance(2.0)
    dog.watchdog.set(7.0)
    dog.clock.advance(100.0)
    assert dog.barks == [1.0, 7.0]


def test_armed_again_while_it_expires(dog: Dog) -> None:
    times = iter((2.0, 3.0, NEVER))

    def bark() -> None:
        dog.barks.append(dog.clock.now)
        watchdog.set(next(times))

    watchdog = dog.watch(bark)
    watchdog.set(1.0)
    dog.clock.advance(100.0)
    assert dog.barks == [1.0, 2.0, 3.0]


def test_closed_watchdog_holds_no_timer_and_never_expires(dog: Dog) -> None:
    dog.watchdog.set(5.0)
    dog.watchdog.close()
    assert dog.clock.timers == []
    dog.watchdog.close()
    dog.clock.advance(100.0)
    assert dog.barks == []


def test_thousand_requests_in_one_period_cost_one_timer(dog: Dog) -> None:
    for request in range(1000):
        dog.watchdog.set(request * 0.001 + 5.0)
        dog.clock.advance(0.001)
    assert dog.clock.started == 1
    assert dog.barks == []


def test_timer_that_looks_a_tick_early_does_not_spin() -> None:
    dog = Dog(early=TICK)
    dog.watchdog.set(5.0)
    dog.clock.advance(10.0)
    assert dog.barks == [pytest.approx(5.0, abs=TICK)]
    assert dog.clock.started == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.one_of(st.integers(0, 20).map(float), st.just(NEVER))),
        st.tuples(st.just("advance"), st.integers(0, 10).map(float)),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([0.0, TICK / 2, TICK]))
def test_expires_when_a_plain_timer_would(steps: list[tuple[str, float]], early: float) -> None:
    dog = Dog(early)
    expected: list[float] = []
    deadline = NEVER
    for step, seconds in steps:
        if step == "set":
            deadline = dog.clock.now + seconds
            dog.watchdog.set(deadline)
            assert len(dog.clock.timers) <= 1
            continue
        until = dog.clock.now + seconds
        if deadline <= until:
            expected.append(deadline)
            deadline = NEVER
        dog.clock.advance(seconds)
        assert dog.barks == pytest.approx(expected, abs=2 * TICK)

"""Hours and days in UTC, and who is charged to which."""

from datetime import UTC, datetime

import pytest

from proxy.budget.windows import DAY, HOUR, NANO, Windows

MIDNIGHT = datetime(2026, 10, 31, tzinfo=UTC).timestamp()
NOON = MIDNIGHT + 12 * HOUR

LENGTHS = pytest.mark.parametrize("seconds", [HOUR, DAY])


@LENGTHS
def test_window_ends_at_the_full_utc_hour_or_at_midnight(seconds: int) -> None:
    windows = Windows("", seconds)
    first = windows.of("a", MIDNIGHT)
    assert windows.of("a", MIDNIGHT + seconds - 0.001) is first
    assert windows.of("a", MIDNIGHT + seconds) is not first
    assert windows.of("a", MIDNIGHT - 0.001) is not first


@LENGTHS
@pytest.mark.parametrize("into", [0.0, 0.5, 0.999])
def test_end_is_the_next_edge(seconds: int, into: float) -> None:
    assert Windows("", seconds).end(MIDNIGHT + into * seconds) == MIDNIGHT + seconds


def test_scopes_have_windows_of_their_own() -> None:
    windows = Windows("hour", HOUR)
    windows.of("a", NOON).spent = 5.0
    assert windows.of("b", NOON).spent == 0
    assert windows.of("a", NOON).spent == 5


def test_window_before_the_edge_is_kept_for_requests_that_came_late() -> None:
    windows = Windows("hour", HOUR)
    windows.of("a", NOON - 1).spent = 5.0
    assert windows.of("a", NOON).spent == 0
    assert windows.of("a", NOON - 1).spent == 5


def test_clock_set_back_over_the_edge_and_on_again_forgets_nothing() -> None:
    windows = Windows("hour", HOUR)
    windows.of("a", NOON).spent = 5.0
    windows.of("a", NOON - 1).spent = 3.0
    assert (windows.of("a", NOON).spent, windows.of("a", NOON - 1).spent) == (5, 3)


def test_clock_set_back_by_a_day_still_counts() -> None:
    windows = Windows("hour", HOUR)
    for hours in (24, 25, 0):
        windows.of("a", NOON + hours * HOUR).spent += 1.0
    windows.of("a", NOON).spent += 1.0
    assert windows.of("a", NOON).spent == 2


def test_old_windows_are_forgotten() -> None:
    windows = Windows("hour", HOUR)
    for hour in range(100):
        windows.of("a", NOON + hour * HOUR).spent = 1.0
    assert windows.of("a", NOON).spent == 0


def test_what_others_spent_is_in_windows_that_are_open_and_in_those_to_come() -> None:
    windows = Windows("hour", HOUR)
    number = int(NOON // HOUR)
    open_already = windows.of("a", NOON)
    windows.set_others({(number, "a"): 2.0, (number, "b"): 3.0, (number - 1, "a"): 7.0})
    assert (open_already.others, windows.of("b", NOON).others, windows.of("a", NOON - 1).others) == (2, 3, 7)


def test_hour_that_the_store_no_longer_tells_of_keeps_what_was_known() -> None:
    windows = Windows("hour", HOUR)
    window = windows.of("a", NOON)
    windows.set_others({(int(NOON // HOUR), "a"): 2.0})
    windows.set_others({})
    assert window.others == 2


@pytest.mark.parametrize(
    ("spent", "others", "reserved", "reached"),
    [(9.99, 0, 0, False), (10, 0, 0, True), (0, 10, 0, True), (0, 0, 10, True), (4, 3, 2.99, False), (4, 3, 3, True)],
)
def test_limit_is_reached_by_what_is_spent_here_and_elsewhere_and_reserved(
    spent: float, others: float, reserved: float, reached: bool
) -> None:
    window = Windows("hour", HOUR).of("a", NOON)
    window.spent, window.others, window.reserved = spent, others, round(reserved * NANO)
    assert window.reaches(10) is reached

"""When the daily report is written, by a clock that the test sets."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.reporter import ReportFailed
from proxy.listener.daily import LOOK, DailyReport, last_due
from proxy.policy.snapshot import Policy, ReportPolicy, StorePolicy
from tests.support.lane import policy_of

SIX = 6 * 60
DAY = 86400
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC).timestamp()


class Days:
    """Time that passes when somebody sleeps, and a report that is a file of that time."""

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self.now = now
        self.written: list[float] = []  # hours since the test's midnight
        self.failing = False
        self._end = asyncio.Event()
        self._until = now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._until:
            self._end.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def write(self, path: str) -> None:
        assert path == str(self.path)
        self.written.append((self.now - MIDNIGHT) / 3600)
        if self.failing:
            raise ReportFailed("the store is away")
        self.put()

    def put(self) -> None:
        self.path.write_text("report")
        os.utime(self.path, (self.now, self.now))

    async def pass_by(self, hours: float, daily: DailyReport, policy: Policy) -> None:
        self._until = self.now + hours * 3600
        self._end.clear()
        daily.follow(policy)
        async with asyncio.timeout(10):
            await self._end.wait()
        daily.stop()


def asking(path: Path, at: int | None = SIX, url: str | None = "sqlite:///x.db") -> Policy:
    return replace(
        policy_of("http://127.0.0.1:1"), report=ReportPolicy(at, str(path)), store=StorePolicy(url, 1.0, None)
    )


async def times(path: Path, start: float, hours: float, prepare: Callable[[Days], None] = lambda days: None) -> Days:
    days = Days(path, MIDNIGHT + start * 3600)
    prepare(days)
    await days.pass_by(hours, DailyReport(days.write, lambda: days.now, days.sleep), asking(path))
    return days


def close_to(found: list[float], *expected: float) -> bool:
    return len(found) == len(expected) and all(
        0 <= each - hour <= 2 * LOOK / 3600 for each, hour in zip(found, expected, strict=True)
    )


async def test_report_is_written_once_a_day_at_its_hour(tmp_path: Path) -> None:
    path = tmp_path / "r.md"

    def yesterday(days: Days) -> None:
        days.now -= 3600
        days.put()  # at 06:30 of the day before
        days.now += 3600

    days = await times(path, -16.5, 72, yesterday)
    assert close_to(days.written, 6, 30, 54)


async def test_proxy_that_was_down_at_the_hour_writes_it_at_its_start(tmp_path: Path) -> None:
    days = await times(tmp_path / "r.md", 9, 12)
    assert close_to(days.written, 9)


async def test_restart_after_the_report_writes_no_other_one(tmp_path: Path) -> None:
    days = await times(tmp_path / "r.md", 7, 22, lambda days: days.put())
    assert days.written == []


async def test_failure_is_tried_again_after_an_hour_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(days: Days) -> None:
        days.failing = True

    days = await times(tmp_path / "r.md", 6, 2.5, fail)
    assert close_to(days.written, 6, 7, 8)
    assert caplog.messages[0].endswith("the store is away; the next try is in an hour")


async def test_clock_that_is_set_forward_over_the_hour_misses_nothing(tmp_path: Path) -> None:
    days = Days(tmp_path / "r.md", MIDNIGHT + 5 * 3600)
    days.put()
    daily = DailyReport(days.write, lambda: days.now, days.sleep)
    await days.pass_by(0.5, daily, asking(days.path))
    assert days.written == []
    days.now += 5 * 3600
    await days.pass_by(0.5, daily, asking(days.path))
    assert close_to(days.written, 10.5)


@pytest.mark.parametrize(("at", "url"), [(None, "sqlite:///x.db"), (SIX, None)])
async def test_without_an_hour_or_a_store_nothing_runs(tmp_path: Path, at: int | None, url: str | None) -> None:
    async def write(path: str) -> None:
        raise AssertionError

    daily = DailyReport(write, lambda: MIDNIGHT)
    daily.follow(asking(tmp_path / "r.md", at, url))
    await asyncio.sleep(0.01)
    daily.stop()


async def test_proxies_of_one_server_do_not_all_ask_at_once(tmp_path: Path) -> None:
    found = []
    for number in range(8):
        days = Days(tmp_path / f"{number}.md", MIDNIGHT + 5.9 * 3600)
        days.put()
        daily = DailyReport(days.write, lambda days=days: days.now, days.sleep)  # type: ignore[misc]
        await days.pass_by(0.3, daily, asking(days.path, url="postgresql://h/d"))
        found += days.written
    assert len(found) == 8
    assert all(6 <= each <= 6 + (60 + 2 * LOOK) / 3600 for each in found)
    assert len(set(found)) > 1


async def test_policy_that_changes_the_path_is_followed(tmp_path: Path) -> None:
    written: list[str] = []
    sleeping: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def write(path: str) -> None:
        written.append(path)

    daily = DailyReport(write, lambda: MIDNIGHT, sleeping)
    for name in ("a.md", "a.md", "b.md"):
        daily.follow(asking(tmp_path / name))
        async with asyncio.timeout(5):
            while not written or not written[-1].endswith(name):
                await asyncio.sleep(0.001)
    daily.stop()
    assert [Path(each).name for each in written] == ["a.md", "b.md"]


@given(st.integers(0, 1439), st.floats(0, 4e9))
def test_last_due_is_within_the_last_day_and_at_the_hour(at: int, now: float) -> None:
    due = last_due(at, now)
    assert now - DAY < due <= now
    assert due % DAY == at * 60

"""What is too old goes, in small steps; what is not, stays."""

from collections.abc import Iterator

import pytest

from proxy.experiment.memory import Decision, history
from proxy.experiment.memory import record as decide
from proxy.ledger.brakes import clear, trip
from proxy.ledger.database import Database
from proxy.ledger.retention import STEP, forget, steps
from proxy.words import Brake
from tests.ledger.records import NOW, count, keep, opened, record

DAY = 86400.0
TABLES = ("requests", "attempts", "rollups", "stages", "exposures", "hours", "bins", "visits", "spend")


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    with opened(store_url) as database:
        yield database


def forget_all(store: Database, now: float) -> int:
    taken = 0
    for step in steps(now, 30 * DAY):
        taken += 1
        while forget(store, step):
            taken += 1
    return taken


def test_everything_older_than_the_retention_goes_and_nothing_else(store: Database) -> None:
    keep(store, [record(time=NOW - 31 * DAY, salt="old", unit="c" * 32)], "old")
    keep(store, [record(time=NOW - 29 * DAY)], "young")
    before = {table: count(store, table) for table in TABLES}
    forget_all(store, NOW)
    after = {table: count(store, table) for table in TABLES}
    assert set(before.values()) == {2}
    assert set(after.values()) == {1}
    assert store.execute("SELECT salt FROM requests") == [("qa_agent/ft:m",)]
    assert store.execute("SELECT salt FROM exposures") == [("qa_agent/ft:m",)]


def test_stage_that_still_runs_keeps_the_sums_of_its_first_days(store: Database) -> None:
    keep(store, [record(time=NOW - 40 * DAY)], "first day")
    keep(store, [record(time=NOW)], "today")
    forget_all(store, NOW)
    assert store.execute("SELECT requests FROM rollups") == [(2,)]
    assert count(store, "exposures") == 1
    assert count(store, "requests") == 1


def test_cleared_brakes_go_and_decisions_stay_for_longer(store: Database) -> None:
    for name, age in (("old", 400.0), ("older than a month", 31.0), ("today", 0.0)):
        trip(store, Brake(name, name, NOW - age * DAY, "{}"))
        decided = Decision(name, NOW - age * DAY, "qa_agent", "s", 10.0, "hold", None, (), "run", {})
        decide(store, decided)
    clear(store, "older than a month", NOW - 31 * DAY, "somebody")
    clear(store, "today", NOW, "somebody")
    forget_all(store, NOW)
    assert sorted(store.execute("SELECT id FROM brakes")) == [("old",), ("today",)], "what is in force stays"
    assert [each.id for each in history(store)] == ["today", "older than a month"]


def test_much_is_forgotten_in_small_transactions(store: Database) -> None:
    old = [record(time=NOW - 40 * DAY + number) for number in range(2 * STEP + 1)]
    keep(store, old, "old")
    step = steps(NOW, 30 * DAY)[0]
    assert [forget(store, step) for _ in range(3)] == [True, True, False]
    assert count(store, "attempts") == 0
    assert forget_all(store, NOW) > len(steps(NOW, 30 * DAY))
    assert count(store, "requests") == 0


def test_retention_longer_than_time_itself_forgets_nothing(store: Database) -> None:
    keep(store, [record(time=5.0)])
    for step in steps(NOW, 1e12):
        assert not forget(store, step)
    assert count(store, "requests") == 1

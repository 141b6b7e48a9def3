"""Brakes in the store: shared, remembered, cleared by a person, counted once."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from proxy.ledger.batch import Batch, write
from proxy.ledger.brakes import clear, trip, tripped
from proxy.ledger.database import Database
from proxy.ledger.ledger import Ledger
from proxy.policy.snapshot import StorePolicy
from proxy.words import Brake
from tests.ledger.records import NOW, count, opened, record
from tests.support.records import row_of

KEY = b"k" * 32
BRAKE = Brake("018f-1", "qa_agent", NOW, json.dumps({"failures": 9}))


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    with opened(store_url) as database:
        yield database


def test_earliest_brake_of_each_agent_is_in_force(store: Database) -> None:
    for brake in (BRAKE, BRAKE._replace(id="018f-0", time=NOW - 5), BRAKE._replace(id="018f-2", agent="other")):
        trip(store, brake)
    assert tripped(store) == {
        "qa_agent": BRAKE._replace(id="018f-0", time=NOW - 5),
        "other": BRAKE._replace(id="018f-2", agent="other"),
    }


def test_cleared_brake_stays_cleared_when_it_is_told_again(store: Database) -> None:
    trip(store, BRAKE)
    trip(store, BRAKE._replace(id="018f-2", time=NOW + 1))
    assert clear(store, "other", NOW + 9, "somebody") == 0
    assert clear(store, "qa_agent", NOW + 9, "somebody") == 2
    trip(store, BRAKE)
    assert tripped(store) == {}
    assert clear(store, "qa_agent", NOW + 10, "another") == 0
    assert store.execute("SELECT cleared, cleared_by FROM brakes WHERE id = ?", (BRAKE.id,)) == [(NOW + 9, "somebody")]


def test_clearing_that_comes_late_spares_what_was_tripped_since(store: Database) -> None:
    later = BRAKE._replace(id="018f-2", time=NOW + 60)
    trip(store, BRAKE)
    trip(store, later)
    assert clear(store, "qa_agent", NOW + 30, "somebody") == 1
    assert tripped(store) == {"qa_agent": later}


def test_commands_are_part_of_their_batch_and_count_once(store: Database) -> None:
    batch = Batch("b", [row_of(record())], (), [("trip", tuple(BRAKE))])
    assert write(store, batch, "p", NOW) == (1, 0)
    assert tripped(store) == {"qa_agent": BRAKE}
    assert write(store, Batch("c", (), (), [("clear", "qa_agent", NOW + 1, "somebody")]), "p", NOW) == (0, 0)
    assert write(store, batch, "p", NOW) == (1, 0)
    assert tripped(store) == {}
    assert count(store, "requests") == 1


def test_poison_beside_a_brake_is_kept_aside_and_the_brake_holds(store: Database) -> None:
    commands = [("trip", tuple(BRAKE)), ("sing",), ("trip", tuple(BRAKE._replace(id="018f-2", agent="other")))]
    batch = Batch("b", [row_of(record()), ((), ())], [b"[]"], commands)
    assert write(store, batch, "p", NOW) == write(store, batch, "p", NOW) == (1, 0)
    assert set(tripped(store)) == {"qa_agent", "other"}
    assert count(store, "rejected") == 3


class Proxy:
    """A ledger and what it says of brakes."""

    def __init__(self) -> None:
        self.brakes: dict[str, Brake] = {}
        self.ledger = Ledger(
            asyncio.get_running_loop(), lambda _: None, lambda _: None, lambda brakes: setattr(self, "brakes", brakes)
        )

    @property
    def up(self) -> bool:
        """Whether a store takes what it is given."""
        (metric,) = [each for each in self.ledger.collect() if each.name == "splitlane_ledger_up"]
        return bool(metric.samples[0].value)


@asynccontextmanager
async def proxies(url: str | None, number: int = 1) -> AsyncIterator[list[Proxy]]:
    made = [Proxy() for _ in range(number)]
    try:
        for each in made:
            await each.ledger.follow(StorePolicy(url, 1e9, KEY), "info")
        yield made
    finally:
        for each in made:
            await each.ledger.stop()


async def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_brake_of_one_proxy_stops_the_others_and_the_next_life_until_it_is_cleared(store_url: str) -> None:
    async with proxies(store_url, 2) as (one, two):
        brake = BRAKE._replace(time=time.time())
        one.ledger.trip(brake)
        assert one.brakes == {"qa_agent": brake}, "at once"
        await eventually(lambda: two.brakes)
    async with proxies(store_url, 2) as (one, two):
        await eventually(lambda: one.brakes == two.brakes == {"qa_agent": brake})
        two.ledger.clear("qa_agent", "somebody")
        assert two.brakes == {}
        await eventually(lambda: not one.brakes)
    with opened(store_url) as database:
        assert database.execute("SELECT cleared_by FROM brakes") == [("somebody",)]


async def test_brake_works_without_a_store_and_goes_to_the_first_there_is(store_url: str) -> None:
    async with proxies(None) as (proxy,):
        proxy.ledger.trip(BRAKE)
        assert proxy.brakes == {"qa_agent": BRAKE}
        proxy.ledger.clear("qa_agent", "somebody")
        assert proxy.brakes == {}
        again = BRAKE._replace(id="018f-2")
        proxy.ledger.trip(again)
        await proxy.ledger.follow(StorePolicy(store_url, 1e9, KEY), "info")
        assert proxy.brakes == {"qa_agent": again}
        await eventually(lambda: proxy.up)
    with opened(store_url) as database:
        assert tripped(database) == {"qa_agent": again}
        assert count(database, "brakes") == 2

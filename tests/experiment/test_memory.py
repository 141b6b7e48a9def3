"""A rollout's memory, on both kinds of store."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.experiment.evidence import Hold
from proxy.experiment.memory import (
    Decision,
    give_back,
    history,
    holder_of,
    lift_hold,
    moved_to,
    put_hold,
    record,
    take_lease,
)
from proxy.ledger.database import Database
from tests.ledger.records import NOW, opened


@pytest.fixture
def store(store_url: str) -> object:
    with opened(store_url) as database:
        yield database


def decided(number: int, **changes: object) -> Decision:
    plain = Decision(
        f"id-{number}", NOW + number, "qa_agent", "s", 10.0, "hold", None, ("SOAK",), "run", {"p": 0.5, "ö": [1, None]}
    )
    return plain._replace(**changes)  # type: ignore[arg-type]


def test_decisions_come_back_whole_and_newest_first(store: Database) -> None:
    kept = [decided(0), decided(1, agent="legal_agent"), decided(2, action="advance", target=25.0)]
    for each in (*kept, kept[0]):
        record(store, each)
    assert history(store) == kept[::-1]
    assert history(store, "qa_agent", limit=1) == [kept[2]]


def test_percentage_was_set_by_the_latest_move_to_it_under_its_salt(store: Database) -> None:
    moves = [("advance", 25.0, "s"), ("set", 25.0, "s"), ("rollback", 0.0, "s"), ("advance", 25.0, "other"),
             ("not_done", 25.0, "s"), ("hold", None, "s")]  # fmt: skip
    for number, (action, target, salt) in enumerate(moves):
        record(store, decided(number, action=action, target=target, salt=salt))
    assert moved_to(store, "qa_agent", "s", 25.0) == NOW + 1
    assert moved_to(store, "qa_agent", "s", 0.0) == NOW + 2
    assert moved_to(store, "qa_agent", "s", 50.0) is None
    assert moved_to(store, "legal_agent", "s", 25.0) is None


def test_hold_is_lifted_once(store: Database) -> None:
    assert lift_hold(store, "qa_agent") is None
    put_hold(store, "qa_agent", Hold("paused", "lunch", NOW), "ann")
    assert lift_hold(store, "qa_agent") == Hold("paused", "lunch", NOW)
    assert lift_hold(store, "qa_agent") is None


def test_lease_is_one_holders_until_it_expires_or_is_given_back(store: Database) -> None:
    assert take_lease(store, "rollout", "one", NOW, 60)
    assert take_lease(store, "rollout", "one", NOW + 30, 60), "its holder extends it"
    assert not take_lease(store, "rollout", "two", NOW + 80, 60)
    assert holder_of(store, "rollout") == ("one", NOW + 90)
    assert take_lease(store, "rollout", "two", NOW + 90, 60)
    give_back(store, "rollout", "one")
    assert holder_of(store, "rollout") == ("two", NOW + 150)
    give_back(store, "rollout", "two")
    assert holder_of(store, "rollout") is None


def test_of_many_that_want_a_lease_at_once_one_gets_it(store_url: str) -> None:
    with opened(store_url):
        pass

    def want(name: str) -> bool:
        with opened(store_url) as database:
            return take_lease(database, "rollout", name, NOW, 60)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(want, ["a", "b", "c", "d"])) == 1

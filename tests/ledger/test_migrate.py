"""The tables' versions."""

import threading
from dataclasses import replace

import pytest

from proxy.ids import Ids
from proxy.ledger.migrate import NewerSchema, migrate, version_of
from proxy.ledger.open import open_database
from proxy.ledger.schema import MIGRATIONS
from proxy.ledger.thresholds import DAY, freeze
from proxy.words import Variant
from tests.ledger.records import keep, opened
from tests.ledger.stores import SALT, START, insert, record

new_id = Ids().new


def test_tables_are_made_once_and_left_alone_afterwards(store_url: str) -> None:
    with opened(store_url) as database:
        database.execute("INSERT INTO spend VALUES (1, 'a', 'p', 1.0)")
    with opened(store_url) as database:
        assert version_of(database) == len(MIGRATIONS)
        assert database.execute("SELECT cost FROM spend") == [(1.0,)]


def test_several_proxies_that_start_at_once_make_one_set_of_tables(store_url: str) -> None:
    errors: list[BaseException] = []
    together = threading.Barrier(6)

    def start() -> None:
        try:
            together.wait()
            database = open_database(store_url)
            migrate(database)
            database.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with opened(store_url) as database:
        assert database.execute("SELECT version FROM schema_version") == [(len(MIGRATIONS),)]


def test_store_of_a_newer_version_is_left_alone_and_says_what_to_do(store_url: str) -> None:
    with opened(store_url) as database:
        database.execute("UPDATE schema_version SET version = 99")
    database = open_database(store_url)
    with pytest.raises(NewerSchema, match=r"tables of version 99.*upgrade splitlane"):
        migrate(database)
    database.close()


def test_store_of_version_1_keeps_its_sums_and_its_stages_can_be_frozen(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.ledger.migrate.MIGRATIONS", MIGRATIONS[:1])
    kept = [
        record(number, variant=Variant.BASELINE, latency=number / 100, cost=0.25, request_id=new_id(START + number),
               time=START + number)
        for number in range(200)
    ]  # fmt: skip
    with opened(store_url) as database:
        insert(database, kept)
        database.execute("INSERT INTO exposures VALUES ('qa_agent', ?, 10.0, 'u', 'baseline', ?)", (SALT, START - 5))
    monkeypatch.undo()
    with opened(store_url) as database:
        assert version_of(database) == len(MIGRATIONS)
        assert database.execute("SELECT first_time, last_time FROM stages") == [(START - 5, START)]
        assert database.execute("SELECT capped_latency - latency, capped_cost - cost, slow FROM rollups") == [(0, 0, 0)]
        keep(database, [replace(kept[0], request_id=new_id(START + DAY), time=START + DAY)])
        assert freeze(database, START + DAY + 1)
        assert database.execute("SELECT tau FROM stages") == [(1.89,)]
        assert database.execute("SELECT requests, slow FROM rollups") == [(201, 10)]


def test_migration_that_fails_leaves_nothing_behind(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*MIGRATIONS, ("CREATE TABLE extra (x integer)", "CREATE NONSENSE"))
    with opened(store_url) as database:
        monkeypatch.setattr("proxy.ledger.migrate.MIGRATIONS", broken)
        with pytest.raises(Exception, match="syntax error"):
            migrate(database)
        assert version_of(database) == len(MIGRATIONS)
        database.execute("CREATE TABLE extra (x integer)")

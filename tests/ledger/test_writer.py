"""The writer's thread, and what a store can do to it.  ACCEPTANCE 40."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.ledger.queue import Queue, Waiting
from proxy.ledger.row import Row, row_of
from proxy.ledger.writer import Spent, Writer
from proxy.policy.snapshot import StorePolicy
from tests.ledger.records import NOW, count, keep, opened, record
from tests.support.postgres import PostgresServer

KEY = b"k" * 32


class Running:
    """A writer at work."""

    def __init__(self, url: str, queue: Queue[Row] | None = None, retention: float = 1e9) -> None:
        waiting = Waiting()
        if queue is not None:
            waiting.records = queue
        self.queue = waiting.records
        self.feedback = waiting.feedback
        self.keys: list[bytes] = []
        self.spent: list[Spent] = []
        key = None if url.startswith("sqlite") else KEY
        self.writer = Writer(StorePolicy(url, retention, key), waiting, self.keys.append, self.spent.append)

    def put(self, number: int = 1) -> None:
        for _ in range(number):
            row = row_of(record(time=time.time()))
            self.queue.put(row, row.size)

    def settled(self) -> bool:
        return self.queue.queued == 0


@contextmanager
def writing(url: str, queue: Queue[Row] | None = None, retention: float = 1e9) -> Iterator[Running]:
    running = Running(url, queue, retention)
    running.writer.start()
    try:
        yield running
    finally:
        running.writer.close(5.0)


def eventually(holds: Callable[[], bool], within: float = 15.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def requests(url: str) -> int:
    with opened(url) as database:
        return count(database, "requests")


def test_rows_are_written_soon_and_all_of_them(store_url: str) -> None:
    with writing(store_url) as running:
        running.put(5000)
        eventually(running.settled)
        assert running.writer.up
        assert len(running.keys) == 1
    assert requests(store_url) == running.queue.written == 5000


def test_what_is_left_at_the_end_is_written(store_url: str) -> None:
    with writing(store_url) as running:
        running.put(3000)
    assert running.queue.queued == 0
    assert requests(store_url) == 3000


def test_others_spending_is_told_and_so_is_that_of_an_earlier_life(store_url: str) -> None:
    hour = int(time.time() // 3600)
    with opened(store_url) as database:
        database.execute("INSERT INTO spend VALUES (?, 'qa_agent', 'another', 2.5)", (hour,))
        database.execute("INSERT INTO spend VALUES (?, 'qa_agent', 'another', 9.0)", (hour - 48,))
    with writing(store_url) as running:
        eventually(lambda: bool(running.spent))
        assert running.spent[0] == {(hour, "qa_agent"): 2.5}
        running.put()
        eventually(running.settled)
        time.sleep(1.2)
        assert running.spent[-1] == {(hour, "qa_agent"): 2.5}, "our own is not among it"
    with writing(store_url) as again:
        eventually(lambda: bool(again.spent))
        assert again.spent[0] == {(hour, "qa_agent"): 2.75}


def test_what_is_too_old_goes_while_records_come(store_url: str) -> None:
    with opened(store_url) as database:
        keep(database, [record(time=NOW - 1e8 + number) for number in range(1200)])
    with writing(store_url, retention=86400.0) as running:
        running.put(10)
        eventually(lambda: requests(store_url) == 10)


def test_store_that_is_locked_for_long_loses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with opened(url):
        pass
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with writing(url) as running:
        eventually(lambda: running.writer.up)
        other.execute("BEGIN IMMEDIATE")
        running.put(100)
        time.sleep(6.0)  # longer than one statement waits
        assert running.queue.queued == 100
        other.execute("COMMIT")
        eventually(running.settled)
    other.close()
    assert requests(url) == 100


def test_file_that_is_no_database_is_moved_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.db").write_bytes(b"this is no database, and long enough to tell" * 100)
    with writing(f"sqlite:///{tmp_path}/x.db") as running:
        running.put(10)
        eventually(running.settled)
    assert requests(f"sqlite:///{tmp_path}/x.db") == 10
    (aside,) = [path for path in tmp_path.iterdir() if ".corrupt-" in path.name]
    assert aside.read_bytes().startswith(b"this is no database")
    assert "moved to" in caplog.text


def test_database_that_is_damaged_under_the_writer_is_moved_aside(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with opened(url) as database:
        for batch in range(20):
            keep(database, [record() for _ in range(200)], str(batch))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "x.db"
    damaged = bytearray(file.read_bytes())
    damaged[8192:] = b"\x55" * (len(damaged) - 8192)
    file.write_bytes(damaged)
    with writing(url) as running:
        running.put(10)
        eventually(running.settled)
    assert requests(url) == 10
    assert [path for path in tmp_path.iterdir() if ".corrupt-" in path.name]


def test_file_that_is_deleted_under_the_writer_is_noticed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with writing(url) as running:
        running.put()
        eventually(running.settled)
        for name in ("x.db", "x.db-wal", "x.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        time.sleep(1.5)
        running.put(5)
        eventually(running.settled)
    assert requests(url) == 5


def test_folder_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    url = f"sqlite:///{tmp_path}/data/x.db"
    with writing(url) as running:
        running.put(10)
        time.sleep(1.0)
        assert running.queue.queued == 10
        assert not running.writer.up
        assert caplog.text.count("the store cannot be used") == 1
        (tmp_path / "data").unlink()
        eventually(running.settled)
    assert requests(url) == 10


def test_store_that_is_away_holds_no_more_than_the_queues_bounds(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    queue: Queue[Row] = Queue(max_rows=50)
    with writing(f"sqlite:///{tmp_path}/data/x.db", queue) as running:
        running.put(200)
        assert queue.dropped == 150
        assert len(queue) == 50
        (tmp_path / "data").unlink()
        eventually(running.settled)
        assert (queue.enqueued, queue.written, queue.dropped) == (200, 50, 150)


def test_end_does_not_wait_for_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    running = Running(f"sqlite:///{tmp_path}/data/x.db")
    running.writer.start()
    running.put(10)
    started = time.monotonic()
    running.writer.close(0.5)
    assert time.monotonic() - started < 1.5
    assert running.queue.queued == 10


def test_server_that_goes_down_and_comes_back_loses_nothing_and_repeats_nothing(
    fragile_postgres: PostgresServer,
) -> None:
    url = fragile_postgres.new_database()
    with writing(url) as running:
        running.put(100)
        eventually(running.settled)
        fragile_postgres.down()
        try:
            running.put(3000)
            time.sleep(1.0)
            assert running.queue.queued == 3000
            assert not running.writer.up
        finally:
            fragile_postgres.up()
        eventually(running.settled)
        assert running.queue.dropped == 0
    assert requests(url) == 3100

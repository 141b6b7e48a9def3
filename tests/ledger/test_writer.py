"""The writer's thread, and what a store can do to it.  ACCEPTANCE 40."""

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest

from proxy.ledger import writer as module
from proxy.ledger.batch import Batch, Kept
from proxy.ledger.feedback import Joined
from proxy.ledger.standing import Standing
from proxy.ledger.writer import Spent, Writer
from proxy.policy.snapshot import StorePolicy
from proxy.words import Brake
from tests.ledger.records import NOW, count, keep, opened, record
from tests.support.postgres import PostgresServer
from tests.support.records import row_of

KEY = b"k" * 32


class Running:
    """A writer at work on a thread of its own: where its batches come from, and who hears of them."""

    def __init__(self, url: str, retention: float = 1e9) -> None:
        self.ended = False
        self.up = False
        self.sent = self.kept = self.lost = 0
        self.keys: list[bytes] = []
        self.heard: list[Spent] = []
        self.brakes: list[dict[str, Brake]] = []
        self.standings: list[Standing] = []
        self._batches: Queue[Batch] = Queue()
        self._names = itertools.count()
        key = None if url.startswith("sqlite") else KEY
        writer = Writer(StorePolicy(url, retention, key), f"{id(self):x}", self, self)
        self.thread = threading.Thread(target=writer.run)

    def put(self, number: int = 1) -> None:
        rows = [row_of(record(time=time.time())) for _ in range(number)]
        self.sent += number
        self._batches.put(Batch(f"{id(self):x}-{next(self._names)}", rows))

    def settled(self) -> bool:
        return self.sent == self.kept

    def take(self) -> Batch | None:
        try:
            return self._batches.get_nowait()
        except Empty:
            return None

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.02))

    def rest(self, seconds: float) -> None:
        self.wait(seconds)

    def opened(self, key: bytes) -> None:
        self.up = True
        self.keys.append(key)

    def written(self, batch: Batch, kept: Kept) -> None:
        self.up = True
        self.kept += kept.rows
        self.lost += len(batch.rows) - kept.rows

    def spent(self, spent: Spent) -> None:
        self.heard.append(spent)

    def joined(self, joined: Joined) -> None:
        pass

    def braked(self, brakes: dict[str, Brake]) -> None:
        self.brakes.append(brakes)

    def stands(self, standing: Standing) -> None:
        self.standings.append(standing)

    def away(self) -> None:
        self.up = False


@contextmanager
def writing(url: str, retention: float = 1e9) -> Iterator[Running]:
    running = Running(url, retention)
    running.thread.start()
    try:
        yield running
    finally:
        running.ended = True
        running.thread.join(10)
        assert not running.thread.is_alive()


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
        assert running.up
        assert len(running.keys) == 1
    assert requests(store_url) == running.kept == 5000


def test_what_is_left_at_the_end_is_written(store_url: str) -> None:
    with writing(store_url) as running:
        running.put(3000)
    assert running.settled()
    assert requests(store_url) == 3000


def test_others_spending_is_told_and_so_is_that_of_an_earlier_life(store_url: str) -> None:
    hour = int(time.time() // 3600)
    with opened(store_url) as database:
        database.execute("INSERT INTO spend VALUES (?, 'qa_agent', 'another', 2.5)", (hour,))
        database.execute("INSERT INTO spend VALUES (?, 'qa_agent', 'another', 9.0)", (hour - 48,))
    with writing(store_url) as running:
        eventually(lambda: bool(running.heard))
        assert running.heard[0] == {(hour, "qa_agent"): 2.5}
        running.put()
        eventually(running.settled)
        time.sleep(1.2)
        assert running.heard[-1] == {(hour, "qa_agent"): 2.5}, "our own is not among it"
    with writing(store_url) as again:
        eventually(lambda: bool(again.heard))
        assert again.heard[0] == {(hour, "qa_agent"): 2.75}


def test_how_rollouts_stand_is_told_at_once_and_again_and_after_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STANDING_EVERY", 0.05)
    url = f"sqlite:///{tmp_path}/x.db"
    with writing(url) as running:
        eventually(lambda: bool(running.standings))
        assert running.standings[0] == Standing({}, {}, {})
        with opened(url) as database:
            database.execute("INSERT INTO holds VALUES ('qa_agent', 'paused', '', 0, 'somebody')")
        eventually(lambda: running.standings[-1].holds == {"qa_agent": "paused"})
        for name in ("x.db", "x.db-wal", "x.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        eventually(lambda: running.standings[-1].holds == {})


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
        eventually(lambda: running.up)
        other.execute("BEGIN IMMEDIATE")
        running.put(100)
        time.sleep(6.0)  # longer than one statement waits
        assert running.kept == 0
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
        assert running.kept == 0
        assert not running.up
        assert caplog.text.count("the store cannot be used") == 1
        (tmp_path / "data").unlink()
        eventually(running.settled)
    assert requests(url) == 10


def test_end_does_not_wait_long_for_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    started = time.monotonic()
    with writing(f"sqlite:///{tmp_path}/data/x.db") as running:
        running.put(10)
    assert time.monotonic() - started < 4.5
    assert running.kept == 0


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
            assert running.kept == 100
            assert not running.up
        finally:
            fragile_postgres.up()
        eventually(running.settled)
        assert running.lost == 0
    assert requests(url) == 3100

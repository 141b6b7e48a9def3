"""What the store leaves on disk is for its owner alone, from its first moment, whatever the umask says."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.ledger.sqlite import SqliteDatabase
from proxy.ledger.unit_key import key_beside
from tests.ledger.records import opened


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_store_its_companions_and_its_key_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data/s.db"
    key_beside(path)
    with opened(f"sqlite:///{path}"):
        assert modes(tmp_path) == {
            "data": 0o700,
            **dict.fromkeys(("data/s.db", "data/s.db-wal", "data/s.db-shm", "data/s.db.key"), 0o600),
        }


def test_file_is_private_before_anything_can_be_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, int]] = []
    connect = sqlite3.connect

    def watched(*args: object, **options: object) -> object:
        seen.append(modes(tmp_path))
        return connect(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("sqlite3.connect", watched)
    SqliteDatabase(tmp_path / "s.db").close()
    assert seen == [{"s.db": 0o600}]


def test_folder_and_store_of_somebodys_own_making_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(0o750)
    first = SqliteDatabase(folder / "s.db")
    first.execute("CREATE TABLE kept (x)")
    first.close()
    second = SqliteDatabase(folder / "s.db")
    assert second.execute("SELECT count(*) FROM kept") == [(0,)]
    second.close()
    assert modes(tmp_path) == {"data": 0o750, "data/s.db": 0o600}

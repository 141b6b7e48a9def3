"""The key that users are hashed with."""

import threading
from pathlib import Path

import pytest

from proxy.ledger.database import DatabaseUnavailable
from proxy.ledger.unit_key import key_beside


def test_key_is_made_once_for_nobody_elses_eyes(tmp_path: Path) -> None:
    store = tmp_path / "new" / "x.db"
    key = key_beside(store)
    assert len(key) == 64
    assert key_beside(store) == key
    place = store.with_name("x.db.key")
    assert place.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in store.parent.iterdir()] == ["x.db.key"]


def test_proxies_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    keys = []

    def start() -> None:
        together.wait()
        keys.append(key_beside(tmp_path / "x.db"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_file_that_holds_no_key_is_not_replaced_quietly(tmp_path: Path) -> None:
    place = tmp_path / "x.db.key"
    place.write_text("short")
    with pytest.raises(DatabaseUnavailable, match="not a key"):
        key_beside(tmp_path / "x.db")
    assert place.read_text() == "short"


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match=r"x\.db\.key"):
        key_beside(tmp_path / "file" / "x.db")

"""The ledger and its writer's place in the machine."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger import ledger as module
from proxy.ledger.ledger import Ledger
from proxy.policy.snapshot import StorePolicy
from tests.ledger.records import count, opened, record


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def test_writer_waits_for_the_requests_until_too_much_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HURRY_AT", 10)
    path = tmp_path / "store.db"
    url = f"sqlite:///{path}"
    before = children()
    ledger = Ledger(asyncio.get_running_loop(), lambda _: None, lambda _: None, lambda _: None)
    await ledger.follow(StorePolicy(url, 1e9, None), "info")
    (writer,) = children() - before
    assert os.sched_getscheduler(writer) == os.SCHED_IDLE
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ledger.take([record(request_id=f"018f-{number}") for number in range(11)])
        ledger.send()
        allowed = os.geteuid() == 0
        assert os.sched_getscheduler(writer) == (os.SCHED_OTHER if allowed else os.SCHED_IDLE)
        assert os.getpriority(os.PRIO_PROCESS, writer) == (0 if allowed else 19)
        other.execute("COMMIT")
    await ledger.stop()
    with opened(url) as database:
        assert count(database, "requests") == 11


async def test_while_the_writer_is_at_a_batch_it_is_sent_whole_ones_only(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    url = f"sqlite:///{path}"
    ledger = Ledger(asyncio.get_running_loop(), lambda _: None, lambda _: None, lambda _: None)
    await ledger.follow(StorePolicy(url, 1e9, None), "info")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # the writer waits for it with the first batch
        for number in range(20):
            ledger.take([record(request_id=f"018f-{number}")])
            ledger.send()
        ledger.take([record(request_id=f"018e-{number}") for number in range(module.MAX_BATCH)])
        ledger.send()
        found = {each.name: each.samples[0].value for each in ledger.collect()}
        assert found["splitlane_ledger_enqueued"] == found["splitlane_ledger_queued"] == 20 + module.MAX_BATCH
        other.execute("COMMIT")
    await ledger.stop()
    with opened(url) as database:
        assert count(database, "requests") == 20 + module.MAX_BATCH
        assert count(database, "batches") == 3  # the first record; then what waits, once it is enough for a whole one


async def test_what_is_being_packed_is_enqueued_for_who_asks() -> None:
    ledger = Ledger(asyncio.get_running_loop(), lambda _: None, lambda _: None, lambda _: None)
    ledger.take([record()])
    found = {each.name: each.samples[0].value for each in ledger.collect()}
    assert found["splitlane_ledger_enqueued"] == found["splitlane_ledger_queued"] == 1
    await ledger.stop()

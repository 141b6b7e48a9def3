"""Workers that do not start: what the parent makes of their end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.policy.snapshot import Address
from proxy.workers import child, supervisor
from proxy.workers.sockets import bind
from proxy.workers.supervisor import Supervisor
from tests.support.lane import policy_of

ANY = Address("127.0.0.1", 0)


async def ended(program: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a parent whose workers are this program."""
    monkeypatch.setattr(child, "PROGRAM", f"import sys, time; {program}  # {{path}} {{given}}")
    sockets = bind(ANY, ANY, 2)
    async with asyncio.timeout(20):
        return await Supervisor(Path("policy.yaml"), policy_of("http://127.0.0.1:1"), sockets).run()


async def test_worker_that_cannot_start_ends_all_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await ended("sys.exit(2)", monkeypatch) == 2


async def test_worker_that_is_killed_while_it_starts_ends_all_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await ended("import os; os.kill(os.getpid(), 9)", monkeypatch) == 1


async def test_worker_that_never_becomes_ready_is_killed_and_ends_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "START_WITHIN", 0.2)
    assert await ended("time.sleep(60)", monkeypatch) == 1
    assert "does not become ready" in caplog.text


class Told:
    """A worker as far as it is told something."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.told: list[tuple[Any, ...]] = []
        self.leading = asyncio.Event()
        self.ended = asyncio.Event()

    def send(self, *message: Any) -> None:
        self.told.append(message)


async def test_brakes_notices_and_reloads_of_one_worker_reach_those_they_concern() -> None:
    sockets = bind(ANY, ANY, 3)
    parent: Any = Supervisor(Path("policy.yaml"), policy_of("http://127.0.0.1:1"), sockets)
    workers = [Told(place) for place in range(3)]
    leader, one, other = workers
    parent._children = {*workers}
    trip = ("trip", "id", "qa_agent", 1.0, "{}")
    parent._hear(one, trip)
    assert (leader.told, one.told, other.told) == ([trip], [], [trip])
    assert parent._brakes == {"qa_agent": trip}, "for those that are still to start"
    clear = ("clear", "qa_agent", "somebody")
    parent._hear(leader, clear)
    assert (leader.told, one.told, other.told) == ([trip], [clear], [trip, clear])
    assert parent._brakes == {}

    notice = ("notice", "key", "text")
    parent._hear(one, notice)
    assert notice not in leader.told, "nobody leads yet"
    leader.leading.set()
    await parent._lead(leader)
    assert leader.told[-2:] == [("lead",), notice]
    parent._hear(other, notice)
    assert leader.told[-1] == notice
    parent._hear(leader, ("reloaded",))
    assert (one.told[-1], other.told[-1]) == (("reload",), ("reload",))
    assert leader.told[-1] == notice
    sockets.close()


async def test_place_without_a_worker_is_accepted_from_by_the_one_with_fewest() -> None:
    sockets = bind(ANY, ANY, 4)
    parent: Any = Supervisor(Path("policy.yaml"), policy_of("http://127.0.0.1:1"), sockets)
    workers = [Told(place) for place in range(4)]
    parent._serving = {0: workers[0], 1: workers[1]}
    parent._spread()
    assert [worker.told for worker in workers[:2]] == [[("accept", [0, 2])], [("accept", [1, 3])]]
    parent._serving[2] = workers[2]
    parent._spread()
    assert [worker.told[-1] for worker in workers[:3]] == [("accept", [0, 3]), ("accept", [1]), ("accept", [2])]
    sockets.close()

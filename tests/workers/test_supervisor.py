"""Workers that do not start: what the parent makes of their end."""

import asyncio
from pathlib import Path

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

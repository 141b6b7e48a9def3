"""The process that makes reports: real ones, and worse."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from proxy.admin import reporter
from proxy.admin.reporter import Reporter, ReportFailed

pytestmark = pytest.mark.alone  # processes that must be there in time


def does(monkeypatch: pytest.MonkeyPatch, body: str) -> Reporter:
    """A reporter whose processes run `body`, which knows `argv`."""
    monkeypatch.setattr(reporter, "PROGRAM", "import sys, time, os; path = {path!r}; argv = {argv!r}; " + body)
    return Reporter(Path("p.yaml"))


def counts(made: Reporter) -> dict[str, float]:
    (family,) = made.collect()
    return {sample.labels["outcome"]: sample.value for sample in family.samples}


async def test_report_is_what_its_process_prints_and_is_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = does(monkeypatch, "print(argv, os.getpid())")
    first, second, other = [await made.show(*shape) for shape in ((), (), ("--md",))]
    assert first.startswith(b"['report', '--policy', 'p.yaml'] ")
    assert first == second
    assert b"'--md'" in other
    assert counts(made) == {"done": 2, "failed": 0, "late": 0}


async def test_many_who_ask_at_once_get_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made = does(monkeypatch, "time.sleep(0.1); print(os.getpid())")
    assert len(set(await asyncio.gather(*(made.show() for _ in range(20))))) == 1


async def test_never_two_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    made = does(monkeypatch, f"os.mkdir({str(busy)!r}); time.sleep(0.1); os.rmdir({str(busy)!r})")
    await asyncio.gather(made.show(), made.show("--md"), made.write("r.md"))
    assert counts(made)["done"] == 3


async def test_failure_is_told_in_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    made = does(
        monkeypatch, "sys.exit(print('warning', 'splitlane report: no store', sep='\\n', file=sys.stderr) or 2)"
    )
    with pytest.raises(ReportFailed, match=r"^no store$"):
        await made.show()
    assert counts(made) == {"done": 0, "failed": 1, "late": 0}


async def test_process_that_says_nothing_and_fails_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made = does(monkeypatch, "os._exit(7)")
    with pytest.raises(ReportFailed, match="ended with 7"):
        await made.write("r.md")


async def test_process_that_hangs_is_killed_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    made = does(monkeypatch, f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    monkeypatch.setattr(reporter, "SHOW_WITHIN", 1.0)
    with pytest.raises(ReportFailed, match="not done within 1 seconds"):
        await made.show()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert counts(made)["late"] == 1
    monkeypatch.setattr(reporter, "PROGRAM", "path = {path!r}; print({argv!r})")
    assert b"--md" in await made.show("--md")


async def test_failure_is_shown_again_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "FAILED_FRESH", 0.0)
    made = does(monkeypatch, "sys.exit(1)")
    for _ in range(2):
        with pytest.raises(ReportFailed):
            await made.show()
    assert counts(made)["failed"] == 2


async def test_report_that_is_too_large_is_read_to_its_end_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "MOST_BYTES", 1000)
    made = does(monkeypatch, "print('x' * 3_000_000)")
    with pytest.raises(ReportFailed, match="larger than"):
        await made.show()


async def test_stop_ends_what_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = does(monkeypatch, "time.sleep(60)")
    asking = [asyncio.ensure_future(each) for each in (made.show(), made.write("r.md"))]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    made.stop()
    await made.ended()
    for each in asking:
        with pytest.raises(ReportFailed, match="shutting down"):
            await each
    assert time.monotonic() - started < 0.5
    with pytest.raises(ReportFailed, match="shutting down"):
        await made.show("--json")


async def test_who_leaves_does_not_take_the_report_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = does(monkeypatch, "time.sleep(0.1); print('here')")
    leaving, staying = (asyncio.ensure_future(made.show()) for _ in range(2))
    await asyncio.sleep(0.02)
    leaving.cancel()
    assert await staying == b"here\n"

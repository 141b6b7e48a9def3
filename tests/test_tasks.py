"""The one place that starts tasks."""

import asyncio
import gc
import threading
import weakref

import pytest

from proxy.tasks import blocking, spawn


async def test_task_has_its_name_and_its_result() -> None:
    async def work() -> int:
        return 7

    task = spawn(work(), "seven")
    assert task.get_name() == "seven"
    assert await task == 7


async def test_task_that_nobody_holds_is_kept_until_it_ends_and_no_longer() -> None:
    awaited: list[weakref.ref[asyncio.Future[str]]] = []
    ended: list[str] = []

    async def work() -> None:
        # Nothing but the task holds this future, and nothing but the future the task: a mere cycle.
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        awaited.append(weakref.ref(future))
        ended.append(await future)

    task = weakref.ref(spawn(work(), "unheld"))
    await asyncio.sleep(0)
    gc.collect()
    future = awaited[0]()
    assert future is not None
    future.set_result("done")
    del future
    for _ in range(3):
        await asyncio.sleep(0)
    assert ended == ["done"]
    gc.collect()
    assert task() is None


async def test_failure_stays_with_the_task() -> None:
    async def work() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await spawn(work(), "bad")


async def test_blocking_work_is_done_on_a_thread_of_its_own_that_holds_up_no_exit() -> None:
    worker = await blocking(threading.current_thread, "worker")
    assert worker is not threading.current_thread()
    assert (worker.name, worker.daemon) == ("worker", True)


async def test_error_of_blocking_work_reaches_who_awaits() -> None:
    def work() -> None:
        raise OSError("hung")

    with pytest.raises(OSError, match="hung"):
        await blocking(work, "failing")


async def test_blocking_work_that_nobody_awaits_any_more_ends_in_silence() -> None:
    go = threading.Event()
    waiting = asyncio.create_task(blocking(go.wait, "abandoned"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await asyncio.sleep(0.05)


def test_blocking_work_that_outlives_its_loop_ends_in_silence() -> None:
    go = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        go.wait()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await blocking(work, "late")

    asyncio.run(leave())
    go.set()
    threads[0].join(5)
    assert not threads[0].is_alive()

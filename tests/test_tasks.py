"""The one place that starts tasks."""

import asyncio
import gc
import weakref

import pytest

from proxy.tasks import spawn


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

"""The only message of a turn of the loop goes out at once, several go out together, at its end; so with who waits."""

import asyncio
from collections.abc import Callable

from proxy.outbox import Outbox


class Wire(asyncio.Transport):
    """The network's end of a transport: keeps what is written, and in which order over all of them."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self._name = name
        self._written = written
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")  # as uvloop says
        self._written.append((self._name, bytes(data)))


async def test_only_message_of_a_turn_is_written_where_it_is_made() -> None:
    written: list[tuple[str, bytes]] = []
    one = Wire("one", written)
    outbox = Outbox(asyncio.get_running_loop())
    for turn in range(3):
        written.clear()
        outbox.write(one, b"1")
        assert written == [("one", b"1")], turn
        await asyncio.sleep(0)
        assert written == [("one", b"1")], turn


async def test_messages_of_one_turn_go_out_in_order_when_it_ends() -> None:
    written: list[tuple[str, bytes]] = []
    one, other = Wire("one", written), Wire("other", written)
    outbox = Outbox(asyncio.get_running_loop())
    for turn in range(3):
        written.clear()
        outbox.write(one, b"1")
        outbox.write(other, b"2")
        outbox.write(one, b"3")
        # That there would be more, nobody knew in the first turn.
        assert written == ([] if turn else [("one", b"1")]), turn
        await asyncio.sleep(0)
        assert written == [("one", b"1"), ("other", b"2"), ("one", b"3")], turn


async def test_after_a_turn_of_one_message_the_next_does_not_wait() -> None:
    written: list[tuple[str, bytes]] = []
    one = Wire("one", written)
    outbox = Outbox(asyncio.get_running_loop())
    for messages, at_once in ((2, 1), (1, 0), (1, 1), (2, 1), (2, 0), (1, 0), (1, 1)):
        written.clear()
        for _ in range(messages):
            outbox.write(one, b"1")
        assert len(written) == at_once
        await asyncio.sleep(0)
        assert len(written) == messages


async def test_flush_writes_now_and_nothing_twice() -> None:
    written: list[tuple[str, bytes]] = []
    one = Wire("one", written)
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(one, b"1")
    outbox.write(one, b"2")
    outbox.flush()
    assert written == [("one", b"1"), ("one", b"2")]
    outbox.flush()
    await asyncio.sleep(0)
    assert written == [("one", b"1"), ("one", b"2")]


async def test_closed_transport_takes_no_other_message_with_it() -> None:
    written: list[tuple[str, bytes]] = []
    gone, other = Wire("gone", written), Wire("other", written)
    outbox = Outbox(asyncio.get_running_loop())
    gone.closed = True
    outbox.write(gone, b"1")
    outbox.write(gone, b"2")
    outbox.write(other, b"3")
    outbox.flush()
    assert written == [("other", b"3")]


async def woken(outbox: Outbox, tasks: int, before: Callable[[], None] = lambda: None) -> list[bool]:
    """Which of so many waiting tasks went on within the callback that woke them."""
    loop = asyncio.get_running_loop()
    went_on: list[bool] = []
    within = False
    waiting = [loop.create_future() for _ in range(tasks)]

    async def wait(future: asyncio.Future[None]) -> None:
        await future
        went_on.append(within)
        outbox.write(Wire("one", []), b"1")

    def call() -> None:
        nonlocal within
        before()
        within = True
        for future in waiting:
            outbox.wake(future)
            outbox.wake(future)  # a second time is none
        within = False

    each = [asyncio.create_task(wait(future)) for future in waiting]
    await asyncio.sleep(0)
    loop.call_soon(call)
    await asyncio.gather(*each)
    await asyncio.sleep(0)
    return went_on


async def test_who_waits_goes_on_at_once_where_little_happens() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    assert await woken(outbox, 1) == [True]
    assert await woken(outbox, 1, lambda: outbox.write(Wire("other", []), b"2")) == [False]  # not the turn's first
    assert await woken(outbox, 1) == [True]  # it wrote in a turn of its own
    assert await woken(outbox, 3) == [True, False, False]
    assert await woken(outbox, 2) == [False, False]  # the two before wrote in one turn


async def test_waking_waits_for_nobody_and_for_everybody() -> None:
    loop = asyncio.get_running_loop()
    outbox = Outbox(loop)
    nobody, many = loop.create_future(), loop.create_future()
    tasks = [asyncio.ensure_future(asyncio.wait([many])) for _ in range(2)]
    await asyncio.sleep(0)
    loop.call_soon(outbox.wake, nobody)
    loop.call_soon(outbox.wake, many)
    await asyncio.gather(nobody, *tasks)


async def test_who_waits_no_more_is_not_woken() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    future.cancel()
    Outbox(loop).wake(future)
    assert future.cancelled()

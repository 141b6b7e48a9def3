"""Who is refused and comes back at once waits for its turn; who has room, or comes alone, does not."""

import asyncio

import pytest

from proxy.listener.turnstile import IDLE_TURNS, SHARE, TURNS, Turnstile
from tests.support.lane import eventually


class Reading:
    """A transport, as far as it is told to read."""

    def __init__(self) -> None:
        self.paused = 0

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


async def queue(turnstile: Turnstile, connections: int) -> tuple[list[asyncio.Task[None]], list[Reading]]:
    """So many connections that have been refused, one after the other."""
    transports = [Reading() for _ in range(connections)]
    passing = [asyncio.create_task(turnstile.pass_through(each)) for each in transports]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return passing, transports


async def gone_on(passing: list[asyncio.Task[None]]) -> list[bool]:
    for _ in range(3):
        await asyncio.sleep(0)
    return [each.done() for each in passing]


async def test_turns_come_in_order_at_their_rate_and_nothing_is_read_before() -> None:
    turnstile = Turnstile(asyncio.get_running_loop())
    passing, transports = await queue(turnstile, 10)
    assert [each.paused for each in transports] == [1] * 10
    turnstile.turn(4 / TURNS, idle=0.0, room=-3)
    assert await gone_on(passing) == [True] * 4 + [False] * 6
    assert [each.paused for each in transports] == [0] * 4 + [1] * 6
    turnstile.turn(100 / TURNS, idle=0.0, room=0)
    assert all(await gone_on(passing))


async def test_turns_nobody_waited_for_are_free_until_the_next_ones_come() -> None:
    turnstile = Turnstile(asyncio.get_running_loop())
    turnstile.turn(3 / TURNS, idle=0.0, room=0)
    passing, transports = await queue(turnstile, 5)
    assert await gone_on(passing) == [True] * 3 + [False] * 2
    assert [each.paused for each in transports] == [0] * 3 + [1] * 2
    turnstile.turn(1 / TURNS, idle=0.0, room=0)
    turnstile.turn(1 / TURNS, idle=0.0, room=0)
    assert len(turnstile) == 0


async def test_room_lets_on_at_once_as_many_as_there_is() -> None:
    turnstile = Turnstile(asyncio.get_running_loop())
    passing, _ = await queue(turnstile, 50)
    turnstile.turn(1 / TURNS, idle=0.0, room=40)
    assert sum(await gone_on(passing)) == 40


async def test_idle_time_lets_on_as_many_as_it_can_refuse_and_a_late_loop_none() -> None:
    turnstile = Turnstile(asyncio.get_running_loop())
    passing, _ = await queue(turnstile, 200)
    turnstile.turn(4 / TURNS, idle=-1.0, room=0)
    assert sum(await gone_on(passing)) == 4
    turnstile.turn(4 / TURNS, idle=100 / IDLE_TURNS, room=0)
    assert sum(await gone_on(passing)) == 104


async def test_of_thousands_a_share_goes_on_each_second() -> None:
    turnstile = Turnstile(asyncio.get_running_loop())
    passing, _ = await queue(turnstile, 10_000)
    for _ in range(10):
        turnstile.turn(0.1, idle=0.0, room=0)
    assert sum(await gone_on(passing)) == pytest.approx(10_000 * SHARE, rel=0.1)


async def test_a_client_that_leaves_takes_nobodys_turn() -> None:
    turnstile = Turnstile(asyncio.get_running_loop())
    passing, _ = await queue(turnstile, 3)
    passing[0].cancel()
    await asyncio.sleep(0)
    turnstile.turn(1 / TURNS, idle=0.0, room=0)
    await eventually(lambda: passing[1].done())
    assert not passing[2].done()
    turnstile.turn(1 / TURNS, idle=0.0, room=0)
    await eventually(lambda: passing[2].done())

"""The pool against a plain model: who holds which connection, who waits, and how many there are.

Hypothesis plays requests that take, connect, wait, leave and end in any order, while connections are refused, die, or
end with their answer, and the upstream leaves the policy and comes back.  Time is the machine's own.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.outbox import Outbox
from proxy.upstream import pool as module
from proxy.upstream.pool import Pools, UpstreamError
from proxy.words import Failure
from tests.support.lane import policy_of

MOST = 3
WAIT = 1.0
PATIENCE = 60.0
UPSTREAM = policy_of(
    "http://127.0.0.1:1",
    upstreams={"up": {"base_url": "http://127.0.0.1:1", "pool": {"max_connections": MOST, "wait": "1s"}}},
).upstreams["up"]


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes when it is told to."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        """All that can happen now, happens."""
        self.run_until_complete(_turns())


async def _turns() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


class _Dog:
    """Keepalive is another test's matter."""

    def set(self, deadline: float) -> None:
        del deadline


class Line:
    """A connection, as far as a pool knows one."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.watchdog = _Dog()
        self.closed = False
        self.used = False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.pool.lost(self)


@dataclass(eq=False)
class Asker:
    """A request that wants a connection."""

    task: asyncio.Task[Any]
    since: float
    dialled: "asyncio.Future[Line] | None" = None  # being connected; None: it waits for a place


class Machine(RuleBasedStateMachine):
    """Askers either wait for a place or are being connected; holders hold; the rest is idle."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Clock()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "open_connection", self.dial)
        self.pools = Pools(self.loop, Outbox(self.loop))
        self.pools.keep([UPSTREAM])
        self.pool = self.pools.of(UPSTREAM)
        self.askers: list[Asker] = []
        self.held: list[Line] = []

    async def dial(self, upstream: Any, resolver: Any, tls: Any, made: Callable[[], Any]) -> Line:
        del upstream, resolver, tls, made
        task = asyncio.current_task()
        (asker,) = [each for each in self.askers if each.task is task]
        asker.dialled = self.loop.create_future()
        return await asker.dialled

    # --- what happens -------------------------------------------------------------------------

    @rule(fresh=st.booleans())
    def request_comes(self, fresh: bool) -> None:
        pool = self.pools.of(UPSTREAM)
        if pool is not self.pool:
            assert not self.pool.open, "forgotten with the last of its connections"
            self.pool = pool
        idle = None if fresh else pool.take()
        if idle is not None:
            assert not idle.closed
            self.held.append(idle)  # type: ignore[arg-type]
            return
        task = self.loop.create_task(pool.connect(PATIENCE, fresh=fresh))
        self.askers.append(Asker(task, self.loop.now))
        self.settle()

    @precondition(lambda self: self.dialling())
    @rule(which=st.integers(0, 9), how=st.sampled_from(["made", "made", "refused", "closed at once"]))
    def connecting_ends(self, which: int, how: str) -> None:
        asker = self.dialling()[which % len(self.dialling())]
        assert asker.dialled is not None
        line = Line(self.pool)
        if how == "refused":
            asker.dialled.set_exception(ConnectionRefusedError())
        else:
            line.closed = how != "made"
            asker.dialled.set_result(line)
        self.settle()
        assert asker not in self.askers
        error = asker.task.exception()
        if how == "made":
            assert asker.task.result() is line
        else:
            assert isinstance(error, UpstreamError)
            assert error.failure is Failure.CONNECT

    @precondition(lambda self: self.askers)
    @rule(which=st.integers(0, 9), at_once=st.booleans())
    def client_leaves(self, which: int, at_once: bool) -> None:
        """Perhaps in the moment in which its turn comes."""
        asker = self.askers[which % len(self.askers)]
        if at_once and self.held:
            self.pool.released(self.held.pop())  # type: ignore[arg-type]
        elif at_once and asker.dialled is not None:
            asker.dialled.set_exception(ConnectionResetError())
        asker.task.cancel()
        self.settle()
        assert asker.task.cancelled()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9), at_once=st.booleans())
    def answer_ends(self, which: int, at_once: bool) -> None:
        """Perhaps the connection ends with it, in the same turn of the loop."""
        line = self.held.pop(which % len(self.held))
        first = next((each for each in self.askers if each.dialled is None), None)
        self.pool.released(line)  # type: ignore[arg-type]
        if at_once and first is None:
            line.close()
        self.settle()
        if first is not None:
            assert first.dialled is not None or first.task.done(), "the first that waits is served first"

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def answer_breaks_off(self, which: int) -> None:
        self.held.pop(which % len(self.held)).close()
        self.settle()

    @precondition(lambda self: self.pool.idle)
    @rule(which=st.integers(0, 9))
    def idle_connection_dies(self, which: int) -> None:
        self.pool._idle[which % self.pool.idle].close()
        self.settle()

    @rule(seconds=st.sampled_from([0.4, WAIT]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        waiting = [each for each in self.askers if each.dialled is None]
        self.settle()
        for each in waiting:
            if self.loop.now - each.since >= WAIT:
                error = each.task.exception()
                assert isinstance(error, UpstreamError)
                assert error.failure is Failure.OVERLOAD

    @rule(kept=st.booleans())
    def policy_is_replaced(self, kept: bool) -> None:
        self.pools.keep([UPSTREAM] if kept else [])
        self.settle()

    # --- what holds ---------------------------------------------------------------------------

    def dialling(self) -> list[Asker]:
        return [each for each in self.askers if each.dialled is not None]

    def settle(self) -> None:
        """Let the loop turn; who got a connection holds it."""
        self.loop.turn()
        for asker in list(self.askers):
            if asker.task.done():
                self.askers.remove(asker)
                if not asker.task.cancelled() and asker.task.exception() is None:
                    self.held.append(asker.task.result())

    @invariant()
    def every_connection_has_one_place(self) -> None:
        pool = self.pool
        idle = set(pool._idle)
        assert len(idle) == pool.idle
        assert idle.isdisjoint(self.held)
        assert pool._live == idle.union(self.held)
        assert len(set(self.held)) == len(self.held), "nobody shares a connection"
        assert not any(line.closed for line in pool._live)
        assert pool._reserved == len(self.dialling())
        assert pool.open <= MOST

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        waiting = [each for each in self.askers if each.dialled is None]
        assert len([each for line in self.pool._waiting.values() for each in line if not each.done()]) == len(waiting)
        if waiting:
            assert self.pool.open == MOST

    @invariant()
    def retired_pool_keeps_nothing(self) -> None:
        if self.pool.retired:
            assert not self.pool.idle

    def teardown(self) -> None:
        for asker in self.askers:
            asker.task.cancel()
        self.settle()
        for line in self.held:
            self.pool.released(line)  # type: ignore[arg-type]
        self.pools.keep([])
        self.settle()
        assert self.pool.open == 0
        assert len(self.pools) == 0, "a pool lives as long as a connection of it"
        self.patch.undo()
        self.loop.close()


TestPool: Any = Machine.TestCase
TestPool.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)

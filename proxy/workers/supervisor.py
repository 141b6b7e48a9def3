"""The parent: it starts workers, tells them what to do, and serves nothing itself.

Laws:

- A socket is never closed while the proxy serves: what waits in it is taken by a worker's successor, and until
  there is one, by another worker.
- One worker leads: it answers at the admin listener, probes health and writes the daily report.
- A worker is asked to leave only when its successor accepts.
- What no parent asked for, a worker's end, is followed by another start, each a little later than the one before.
- Workers end with their parent: the end of the link asks for it.
"""

import asyncio
import logging
import os
import signal
import tempfile
from pathlib import Path

from proxy.ledger.frames import Message
from proxy.policy.snapshot import Policy
from proxy.tasks import spawn
from proxy.telemetry.lines import standard_error
from proxy.telemetry.totals import ASKED, DIED
from proxy.workers.child import Child, first_of, told_last
from proxy.workers.sockets import Sockets
from proxy.workers.tally import Tally

log = logging.getLogger("splitlane.workers")

# Seconds before a worker that died is started again: at first, and at most.
SOONEST, LATEST = 0.1, 5.0
# Seconds after which a worker is not one that dies at once.
SETTLED = 10.0
# Seconds between two counts; more where counting takes long: it may cost one part in so many.
COUNT_EVERY = 1.0
COUNT_SHARE = 200
# Seconds that a count waits for a worker: one that hangs counts as it did before.
COUNT_WITHIN = 0.5
# Seconds for a start: past it, it has failed.
START_WITHIN = 60.0
# Seconds for what takes a worker a turn of its loop, and for its end in a hurry.
SOON = 5.0
NOTICES_KEPT = 64


class Supervisor:
    """One parent's workers."""

    def __init__(self, path: Path, policy: Policy, sockets: Sockets) -> None:
        self._path = path
        self._policy = policy
        self._sockets = sockets
        self._lock = _lock_file()
        standard_error.share(self._lock)
        self._children: set[Child] = set()  # that have not ended
        self._serving: dict[int, Child] = {}  # by place
        self._leader: Child | None = None
        self._turns = [asyncio.Lock() for _ in sockets.places]  # one starts in a place at a time
        self._told: dict[Child, list[int]] = {}  # where each was told to accept
        self._pauses = [SOONEST for _ in sockets.places]
        self._tally = Tally()
        self._counts = 0
        self._notices: list[Message] = []  # for the leader
        self._brakes: dict[str, Message] = {}  # in force, by agent, where no store tells
        self._signalled = asyncio.Event()
        self._serves = False  # all have started once
        self._failed_with = 0  # exit code of a worker that did not start
        self._rolling: asyncio.Task[None] | None = None

    def catch_signals(self) -> None:
        """From now on they are obeyed, by all workers."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._when_signalled)
        loop.add_signal_handler(signal.SIGHUP, self._tell_all, "reload")
        loop.add_signal_handler(signal.SIGUSR2, self._when_asked_to_roll)

    async def run(self) -> int:
        """Serve until a signal; the exit code."""
        # The first one alone: it makes the store, and what keeps one from starting is said once.
        for places in ([0], range(1, len(self._turns))):
            await asyncio.gather(*(self._fill(place) for place in places))
            if len(self._serving) <= places[-1]:
                break
        else:
            log.info(
                "serving %s: data %s, admin %s, policy %s, %d workers",
                self._policy.environment, self._sockets.data, self._sockets.front, self._policy.hash,
                len(self._serving),
            )  # fmt: skip
            self._serves = True
            counting = spawn(self._count_on(), "counts")
            await self._signalled.wait()
            counting.cancel()
        await self._drain()
        return self._failed_with

    # --- starts and ends ----------------------------------------------------------------------

    async def _fill(self, place: int) -> None:
        """Have a worker in a place where there is none; later, where it does not start."""
        while not self._signalled.is_set():
            async with self._turns[place]:
                if place in self._serving or await self._start(place) is not None:
                    return
            if not self._serves:
                self._signalled.set()
                return
            await self._rest(place)

    async def _start(self, place: int) -> Child | None:
        """Start a worker, and have it accept; None: it does not start, and has said why."""
        child = Child(place, self._hear)
        try:
            await child.start(self._path, self._sockets, self._lock, self._when_ended)
        except OSError as error:
            log.error("worker %d does not start: %s", place + 1, error)  # noqa: TRY400 a machine without room
            self._failed_with = 0 if self._serves else 1
            return None
        self._children.add(child)
        try:
            async with asyncio.timeout(START_WITHIN):
                await first_of(child.ready, child.ended, self._signalled)
                if child.ready.is_set() and not child.ended.is_set() and not self._signalled.is_set():
                    self._serving[place] = child
                    for brake in self._brakes.values():
                        child.send(*brake)
                    self._spread()
                    await first_of(child.accepting, child.ended)
                    if not self._leader:
                        await self._lead(child)
                    return child
        except TimeoutError:
            log.error("%s does not become ready", child)  # noqa: TRY400 told in its words
        child.kill()
        await child.ended.wait()
        if not self._signalled.is_set():
            if self._serves:
                log.error("%s does not start", child)
            else:
                self._failed_with = max(child.code or 0, 1)
        return None

    async def _rest(self, place: int) -> None:
        """Wait before the next start in a place, each time longer."""
        pause = self._pauses[place]
        self._pauses[place] = min(pause * 2, LATEST)
        try:
            async with asyncio.timeout(pause):
                await self._signalled.wait()
        except TimeoutError:
            pass

    def _when_ended(self, child: Child) -> None:
        self._children.discard(child)
        self._tally.bury(child)
        self._told.pop(child, None)
        if self._leader is child:
            self._leader = None
        if self._serving.get(child.place) is not child:
            return
        del self._serving[child.place]
        if self._signalled.is_set():
            return
        code = child.code or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if not self._serves:
            log.error("%s has ended: %s", child, how)
            self._failed_with = max(code, 1)
            self._signalled.set()
            return
        log.error("%s has ended: %s; another one is started", child, how)
        self._tally.restarts[DIED] += 1
        if asyncio.get_running_loop().time() - child.started >= SETTLED:
            self._pauses[child.place] = SOONEST
        self._spread()
        spawn(self._replace(child.place), "replacement")

    async def _replace(self, place: int) -> None:
        if self._leader is None and self._serving:
            await self._lead(next(iter(self._serving.values())))
        await self._rest(place)
        await self._fill(place)

    async def _roll(self) -> None:
        """Start all anew, one after the other: each leaves when its successor accepts."""
        log.info("restarting %d workers, one after the other", len(self._turns))
        for place, turn in enumerate(self._turns):
            async with turn:
                old = self._serving.get(place)
                new = await self._start(place)
            if new is None:
                if not self._signalled.is_set():
                    log.error("the restart ends here: the new worker does not start, the old ones go on")
                return
            if old is None or old.ended.is_set():
                continue
            self._tally.restarts[ASKED] += 1
            if self._leader is old:
                await self._lead(new)
            await old.end("retire")
        log.info("restarted %d workers", len(self._turns))

    async def _drain(self) -> None:
        self._signalled.set()
        self._sockets.close()
        if self._serves:
            log.info("draining: %d workers", len(self._children))
        for child in self._children - {*self._serving.values()}:
            if not child.leaves:
                child.kill()
        await asyncio.gather(*(child.end("drain") for child in list(self._children)))
        if self._serves:
            log.info("stopped")

    # --- what they are told -------------------------------------------------------------------

    def _spread(self) -> None:
        """Have every socket accepted from: each by its place's worker, else by the one that has fewest."""
        found: dict[Child, list[int]] = {child: [place] for place, child in sorted(self._serving.items())}
        for place in range(len(self._turns) if found else 0):
            if place not in self._serving:
                min(found.values(), key=len).append(place)
        for child, places in found.items():
            if self._told.get(child) != places:
                self._told[child] = places
                child.send("accept", places)

    async def _lead(self, child: Child) -> None:
        """Have a worker lead, from when this returns."""
        self._leader = child
        child.send("lead")
        try:
            async with asyncio.timeout(SOON):
                await first_of(child.leading, child.ended)
        except TimeoutError:
            log.error("%s does not take the admin listener", child)  # noqa: TRY400 told in its words
        for notice in self._notices:
            child.send(*notice)
        self._notices.clear()

    def _tell_all(self, *message: object, but: Child | None = None) -> None:
        for child in self._children:
            if child is not but:
                child.send(*message)

    def _hear(self, child: Child, message: Message) -> None:
        match message:
            case ("ask", int(number), *_):
                spawn(self._tell_whole(child, number), "counts")
            case ("notice", *_) if self._leader is not None and self._leader.leading.is_set():
                self._leader.send(*message)
            case ("notice", *_):
                self._notices = [*self._notices, message][-NOTICES_KEPT:]
            case ("reloaded",):
                self._tell_all("reload", but=child)
            case ("trip", _, str(agent), *_):
                self._brakes[agent] = message
                self._tell_all(*message, but=child)
            case ("clear", str(agent), _):
                self._brakes.pop(agent, None)
                self._tell_all(*message, but=child)

    # --- counts -------------------------------------------------------------------------------

    async def _count_on(self) -> None:
        """Know what they have counted, for when one dies."""
        while True:
            await asyncio.sleep(max(COUNT_EVERY, COUNT_SHARE * told_last([*self._children])))
            await self._count(None)
            if self._leader is not None and self._leader.counts:
                self._tell(self._leader, 0)

    async def _count(self, but: Child | None) -> None:
        self._counts += 1
        asked = [
            spawn(child.count(self._counts), "count")
            for child in self._children
            if child is not but and child.ready.is_set()
        ]
        if asked:
            _, late = await asyncio.wait(asked, timeout=COUNT_WITHIN)
            for each in late:
                each.cancel()

    async def _tell_whole(self, child: Child, number: int) -> None:
        """Answer a worker's question for the sum: its own part came with it."""
        await self._count(child)
        self._tell(child, number)

    def _tell(self, child: Child, number: int) -> None:
        child.send("whole", number, *self._tally.whole(self._children, len(self._serving)))

    # --- signals ------------------------------------------------------------------------------

    def _when_signalled(self) -> None:
        if self._signalled.is_set():
            for child in self._children:
                child.hurry(SOON)
        self._signalled.set()

    def _when_asked_to_roll(self) -> None:
        if not self._serves or (self._rolling is not None and not self._rolling.done()):
            log.warning("workers are being started already")
        elif not self._signalled.is_set():
            self._rolling = spawn(self._roll(), "restart")


def _lock_file() -> int:
    """A file that nobody sees: who has it locked may write to standard error."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

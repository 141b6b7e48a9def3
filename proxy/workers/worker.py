"""A worker: the whole proxy in a process of its own, on sockets of the parent's and by the parent's word.

It is deaf to signals: those of a terminal or a service manager reach all processes of a group, and what they
ask for is done in the parent's order.  A parent that is gone asks for the end, too.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from proxy.admin.guard import TokenError, token_of
from proxy.exchange.exchange import Exchange
from proxy.ledger.frames import Message
from proxy.listener.process import NO_PARSER, fastest_loop, lacks_parser, raise_descriptor_limit, settle_heap
from proxy.listener.service import Service
from proxy.policy.problems import PolicyError
from proxy.policy.snapshot import AgentPolicy
from proxy.policy.store import PolicyStore
from proxy.tasks import spawn
from proxy.telemetry.lines import standard_error
from proxy.telemetry.log import configure
from proxy.telemetry.metrics import Metrics, Plain
from proxy.telemetry.recent import Recent
from proxy.telemetry.totals import families_of, plain_families
from proxy.words import Brake
from proxy.workers.link import Link

log = logging.getLogger("splitlane.workers")

# Seconds that an answer of the admin listener waits for what the other workers have counted; then it tells what
# they had counted before.
HEARD_WITHIN = 1.0
# Seconds that the end of a worker may take past its drain.
AFTER_DRAIN = 10.0


class Inherited(NamedTuple):
    """What a worker gets: numbers of open descriptors, and the policy's file."""

    policy: str
    link: int
    lock: int  # of standard error
    places: tuple[tuple[int, ...], ...]
    admin: tuple[int, ...]


class SeenByAll:
    """What all workers have counted together, of which the parent keeps the sum."""

    def __init__(self, worker: "Worker", exchange: Exchange) -> None:
        self.metrics = Metrics(frozenset, self._families)
        self.recent = Recent(self.metrics)
        self._worker = worker
        self._exchange = exchange
        self._plain: Plain = {}
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}  # by the number of a question

    def hold(self, number: int, counts: Plain, families: Plain) -> None:
        """The parent's word; 0: without a question."""
        self.metrics.load(counts)
        self._plain = families
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def flush(self) -> None:
        """What is shown between two questions is a second old at most."""

    async def refresh(self) -> None:
        self._asked += 1
        number = self._asked
        heard = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._worker.ask(number)
        try:
            async with asyncio.timeout(HEARD_WITHIN):
                await heard
        except TimeoutError:
            log.warning("the other workers do not say what they have counted")
        finally:
            del self._waiting[number]

    def collectors(self) -> list[Collector]:
        return [cast("Collector", self.metrics)]

    def in_flight(self) -> int:
        return int(self._sample("splitlane_in_flight"))

    def breaker_is_open(self, agent: AgentPolicy) -> bool:
        return bool(self._sample("splitlane_breaker_open", ("agent", agent.name)))

    def _families(self) -> Iterator[Metric]:
        return families_of(self._plain)

    def _sample(self, name: str, *labels: tuple[str, str]) -> float:
        samples = self._plain[name][3] if name in self._plain else {}
        return float(samples.get((name, labels), 0.0))


class Worker:
    """Does what the parent says."""

    def __init__(self, store: PolicyStore, inherited: Inherited, token: str | Path) -> None:
        self._store = store
        self._places = [[socket.socket(fileno=each) for each in place] for place in inherited.places]
        self._admin = [socket.socket(fileno=each) for each in inherited.admin]
        for each in (*self._admin, *(each for place in self._places for each in place)):
            each.set_inheritable(False)
        self._link = Link(self._hear, lambda: self._end(None))
        self._pipe = socket.socket(fileno=inherited.link)
        self.service = Service(store, None, None, token=token, see=self._see)
        self._process = ProcessCollector(registry=None)
        self._accepting: dict[int, list[asyncio.Server]] = {}
        self._changing = asyncio.Lock()
        self._ending: asyncio.Task[None] | None = None
        self.code = 0  # of the process's end
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve until the parent says that it is over, or is gone."""
        loop = asyncio.get_running_loop()
        self._pipe.set_inheritable(False)
        await loop.create_unix_connection(lambda: self._link, sock=self._pipe)
        service = self.service
        alarms = service.alarms
        alarms.tell_instead = lambda key, text: self._link.send("notice", key, text)
        alarms.on_trip = lambda brake: self._tell_if_apart("trip", *brake)
        alarms.on_clear = lambda agent, actor: self._tell_if_apart("clear", agent, actor)
        await service.prepare()
        settle_heap()
        self._link.send("ready", os.getpid())
        await self._over.wait()
        self._link.send("counts", 0, *self._count())
        await self._link.close()

    def ask(self, number: int) -> None:
        """Have the sum of what all have counted until now; it comes with the question's number."""
        self._link.send("ask", number, *self._count())

    def _see(self, exchange: Exchange, _: Metrics) -> SeenByAll:
        self._seen = SeenByAll(self, exchange)
        return self._seen

    def _count(self) -> tuple[Plain, Plain, float]:
        """What is counted here, and the seconds that it took to say."""
        started = time.perf_counter()
        service = self.service
        service.exchange.flush()
        stored = self._store.active.policy.store.url is not None
        families = plain_families((*service.gauges(), *self._process.collect()), stored=stored)
        return service.metrics.plain(), families, time.perf_counter() - started

    def _tell_if_apart(self, *message: object) -> None:
        """Tell the others what they would read in a store."""
        if self._store.active.policy.store.url is None:
            self._link.send(*message)

    def _hear(self, message: Message) -> None:
        service = self.service
        match message:
            case ("count", int(number)):
                self._link.send("counts", number, *self._count())
            case ("whole", int(number), dict(counts), dict(families)):
                self._seen.hold(number, counts, families)
            case ("accept", list(places)):
                spawn(self._accept(set(places)), "accept").add_done_callback(self._must_succeed)
            case ("lead",):
                spawn(self._lead(), "lead").add_done_callback(self._must_succeed)
            case ("reload",):
                spawn(service.reload(), "reload")
            case ("notice", str(key), str(text)):
                service.alarms.notices.tell(key, text)
            case ("trip", *brake):
                service.alarms.tripped_elsewhere(Brake(*brake))
            case ("clear", str(agent), str(actor)):
                service.alarms.cleared_elsewhere(agent, actor)
            case ("retire",):
                self._end(0.0)
            case ("drain",):
                self._end(None)
            case ("hurry",):
                service.hurry()
                self._end(None)

    async def _accept(self, places: set[int]) -> None:
        """Accept at these places, and at no others."""
        async with self._changing:
            if self._ending is not None:
                return
            for place in places - self._accepting.keys():
                self._accepting[place] = await self.service.accept(self._places[place])
            for place in self._accepting.keys() - places:
                self.service.leave(self._accepting.pop(place))
        self._link.send("accepting")

    async def _lead(self) -> None:
        """Answer at the admin listener, and do what one does for all."""
        await self._seen.refresh()
        self._seen.recent.begin()
        await self.service.admin_listener.open([each.dup() for each in self._admin])
        self.service.lead()
        self.service.alarms.tell_instead = None  # the others' notices come here
        self.service.on_adopted = lambda: self._link.send("reloaded")
        self._link.send("leading")

    def _must_succeed(self, done: asyncio.Task[None]) -> None:
        """Without sockets there is nothing to do here: the parent tries again with another process."""
        if not done.cancelled() and (error := done.exception()) is not None:
            log.critical(
                "cannot %s: %s", done.get_name(), error, exc_info=None if isinstance(error, OSError) else error
            )
            self.code = 1
            self._end(0.0)

    def _end(self, delay: float | None) -> None:
        """Drain; with a `delay`, for another worker to take this one's place."""
        if self._ending is None:
            limits = self.service.exchange.policy.limits
            self._link.send("draining", (limits.drain_delay if delay is None else delay) + limits.drain + AFTER_DRAIN)
            self._ending = spawn(self._drain(delay), "drain")

    async def _drain(self, delay: float | None) -> None:
        for each in (each for place in self._places for each in place):
            each.close()  # the servers have copies of those where this one accepts
        try:
            if delay is not None:
                admin = self.service.admin_listener
                await admin.hand_over()  # before anything says that this process drains, which the proxy does not
                await asyncio.gather(admin.settle(), self.service.stop(delay))
            else:
                await self.service.stop()
        finally:
            self._over.set()


def main(inherited: Inherited) -> None:
    """Serve until the parent says that it is over; ends the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    standard_error.share(inherited.lock)
    os.set_inheritable(inherited.lock, False)
    if lacks_parser():
        print(NO_PARSER, file=sys.stderr)
        sys.exit(1)
    try:
        store = PolicyStore(Path(inherited.policy), os.environ)
        token = token_of(os.environ)
    except PolicyError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except TokenError as error:
        print(f"splitlane: {error}", file=sys.stderr)
        sys.exit(2)
    configure(store.active.policy.observability.log_level)
    raise_descriptor_limit()

    async def run() -> int:
        worker = Worker(store, inherited, token)
        await worker.run()
        return worker.code

    with asyncio.Runner(loop_factory=fastest_loop.new_event_loop) as runner:
        sys.exit(runner.run(run()))

"""The running proxy: both listeners, the exchange between them, and an orderly end."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.admin.door import Refusals
from proxy.admin.guard import Guard
from proxy.admin.reporter import Reporter
from proxy.admin.seen import Seen, SeenHere
from proxy.budget.metrics import budget_metrics
from proxy.exchange.call import Units
from proxy.exchange.exchange import Exchange
from proxy.exchange.probes import Probes
from proxy.exchange.shadow_metrics import shadow_metrics
from proxy.ledger import Sink
from proxy.ledger.ledger import Ledger
from proxy.ledger.open import kind_of
from proxy.listener.admin import AdminListener
from proxy.listener.alarms import Alarms
from proxy.listener.backlog import stop_listening
from proxy.listener.connection import ClientConnection
from proxy.listener.daily import DailyReport
from proxy.listener.export import Export
from proxy.listener.listener import Listener
from proxy.listener.peers import Peers
from proxy.listener.policy_metrics import policy_metrics
from proxy.listener.rollout_metrics import rollout_metrics
from proxy.outbox import Outbox
from proxy.policy.load import LoadedPolicy
from proxy.policy.problems import PolicyError
from proxy.policy.snapshot import Address, Policy
from proxy.policy.store import PolicyStore
from proxy.tasks import spawn
from proxy.telemetry.access import AccessLog
from proxy.telemetry.lines import standard_error
from proxy.telemetry.log import follow, log_lines
from proxy.telemetry.metrics import Metrics, gauge

log = logging.getLogger("splitlane.listener")

# A request may be on its way on a connection that looks idle.  Within this many seconds of the
# drain's start it is still answered; then idle connections are closed.
IDLE_GRACE = 0.5
# How often a drain looks whether it is done, seconds.
DRAIN_POLL = 0.02
# How long a cut connection may take to carry its last words, seconds.
CUT_GRACE = 0.2
BACKLOG = 4096
# Seconds that a settled request's record may wait for others.
FLUSH_EVERY = 0.05


class Service:
    """Starts, serves, drains.  One per process (tests start several)."""

    def __init__(
        self,
        store: PolicyStore,
        data: Address | None,
        admin: Address | None,
        sinks: tuple[Sink, ...] = (),
        token: str | Path = "",
        see: Callable[[Exchange, Metrics], Seen] = SeenHere,
        *,
        reuse_port: bool = False,
    ) -> None:
        """`sinks`: who gets the records besides the metrics.

        `token`: what opens the admin routes that change something, or a file that has it; empty: nothing does.
        A worker has no addresses: it is given sockets.  `see`: what its admin listener sees, given what is counted
        here.  `reuse_port`: other processes may listen on the data listener's port, too.
        """
        policy = store.active.policy
        self.store = store
        self._data_address = data
        self._admin_address = admin
        self._given_sinks = sinks
        self._reuse_port = reuse_port
        self._refusals = Refusals()
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics(self._known_models, self.gauges)
        self._access = AccessLog(standard_error)
        self.export = Export(self.metrics)
        outbox = Outbox(self._loop)
        self.exchange = Exchange(policy, (self.metrics.take,), self._loop, outbox)
        self.seen = see(self.exchange, self.metrics)
        self.probes = Probes(self._loop, outbox, self.exchange.budgets, self.seen.metrics)
        self.alarms = Alarms(self.exchange, store)
        self.ledger = self.alarms.ledger = Ledger(
            self._loop, self._hash_users_with, self.exchange.budgets.others, self.alarms.hold
        )
        self._reporter = Reporter(store.path)
        self._daily = DailyReport(self._reporter.write)
        store.on_swap = self._adopt
        self._known_cache: tuple[Policy, frozenset[str]] = (policy, _models(policy))
        self._peers = Peers(self.exchange)
        self._listener = Listener(
            self._peers.handler, self.exchange.refuse, lambda: self.exchange.policy.limits, self._loop, outbox
        )
        self.admin_listener = AdminListener(
            self.exchange, store, self.seen, self.probes, self.alarms, self._reporter,
            Guard(token, self._refusals), self._refusals,
            lambda: self.readiness,
        )  # fmt: skip
        self._servers: list[asyncio.Server] = []
        self._leads = False
        self.on_adopted: Callable[[], None] | None = None  # is told of every change of policy
        self._signalled = asyncio.Event()
        self._hurry = asyncio.Event()
        self._flushing: asyncio.TimerHandle | None = None
        self._used = 0.0  # of the processor, at the last flush
        self._watching: asyncio.Task[None] | None = None

    @property
    def data(self) -> Address:
        """The data listener's address, once started."""
        host, port, *_ = self._servers[0].sockets[0].getsockname()
        return Address(host, port)

    @property
    def admin(self) -> Address:
        """The admin listener's address, once started."""
        return self.admin_listener.address

    @property
    def readiness(self) -> str:
        """Whether new requests are welcome: starting | ready | draining."""
        return "draining" if self._listener.draining else "ready" if self._servers else "starting"

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._listener.open)

    @property
    def turned_away(self) -> int:
        """Connections for which there was no room."""
        return self._listener.turned_away

    async def start(self) -> None:
        """Listen.  Raises OSError where an address is taken."""
        assert self._data_address is not None
        assert self._admin_address is not None
        policy = self.exchange.policy
        try:
            await self.admin_listener.open(self._admin_address)
            await self._keep_in(policy)  # no request before it is known what was spent and braked
            self._servers.append(
                await self._loop.create_server(
                    self._connection,
                    *self._data_address,
                    backlog=BACKLOG,
                    reuse_address=True,
                    reuse_port=self._reuse_port or None,
                )
            )
        except OSError:
            await self.ledger.stop()
            await self.admin_listener.close()
            raise
        self._begin(policy)
        self.lead()

    async def prepare(self) -> None:
        """Be ready for sockets to accept from."""
        await self._keep_in(self.exchange.policy)
        self._begin(self.exchange.policy)

    async def accept(self, sockets: Iterable[socket.socket]) -> list[asyncio.Server]:
        """Take what comes in on bound sockets, of which the servers close copies."""
        servers = [
            await self._loop.create_server(self._connection, sock=each.dup(), backlog=BACKLOG) for each in sockets
        ]
        self._servers += servers
        return servers

    def leave(self, servers: Iterable[asyncio.Server]) -> None:
        """Take nothing more there; what waits is for who has the sockets too."""
        for server in servers:
            self._servers.remove(server)
            server.close()

    def lead(self) -> None:
        """Do what one process does for all: health probes, and the daily report."""
        self._leads = True
        self._daily.follow(self.exchange.policy)
        self.probes.follow(self.exchange.policy)

    def _begin(self, policy: Policy) -> None:
        self._settle_by(policy)
        self._flush(time.perf_counter())
        self._watching = spawn(self.store.watch(), "policy watch")

    def _connection(self) -> ClientConnection:
        return ClientConnection(self._listener)

    def catch_signals(self) -> None:
        """From now on SIGTERM and SIGINT ask for the end, the second one for it at once; SIGHUP reloads the policy."""

        def on_signal() -> None:
            if self._signalled.is_set():
                self._hurry.set()
            self._signalled.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, on_signal)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: spawn(self.reload(), "reload"))

    async def run_until_signalled(self) -> None:
        """Serve until one of the caught signals asks for the end, then drain."""
        await self._signalled.wait()
        await self.stop()

    def hurry(self) -> None:
        """End a drain now."""
        self._hurry.set()

    async def stop(self, delay: float | None = None) -> None:
        """Drain: refuse nothing that can finish within the limit, then close everything.

        `delay`: seconds for which new connections are taken, if not the policy's.
        """
        limits = self.exchange.policy.limits
        listener = self._listener
        if self._watching is not None:
            self._watching.cancel()
        self._daily.stop()
        self._reporter.stop()
        self.exchange.shadow.draining = True
        listener.draining = True  # readiness fails, answers say `Connection: close`
        await self.probes.stop()
        log.info("draining: %d requests in flight, %d connections", self.exchange.in_flight, len(listener.open))
        await self._wait(limits.drain_delay if delay is None else delay)
        for server in self._servers:
            await stop_listening(server, self._connection)
        started = self._loop.time()
        while listener.open and not self._hurry.is_set():
            elapsed = self._loop.time() - started
            if elapsed >= limits.drain:
                break
            if elapsed >= min(IDLE_GRACE, limits.drain / 2):
                for connection in list(listener.open):
                    connection.close_idle()
            await self._wait(DRAIN_POLL)
        if listener.open:
            log.warning("drain over: cutting %d connections", len(listener.open))
        for connection in list(listener.open):
            connection.stop()
        cut = self._loop.time() + CUT_GRACE
        while (listener.open or self.exchange.in_flight) and self._loop.time() < cut:
            await asyncio.sleep(DRAIN_POLL / 10)
        for connection in list(listener.open):
            connection.transport.abort()
        while listener.open:
            await asyncio.sleep(0)
        await self.exchange.shadow.stop()
        self.exchange.pools.close_idle()
        if self._flushing is not None:
            self._flushing.cancel()
        self.exchange.flush()
        self._access.write()
        await self.ledger.stop()
        await asyncio.gather(self.export.close(), self.alarms.notices.close())
        await self.admin_listener.close()
        await self._reporter.ended()
        await asyncio.sleep(0)  # let closed transports go
        log.info("stopped")

    async def reload(self) -> None:
        """Read the policy now."""
        try:
            if not await self.store.reload():
                log.info("policy %s is active already", self.store.active.policy.hash)
        except PolicyError:
            pass  # the store has logged it

    def _adopt(self, old: LoadedPolicy, new: LoadedPolicy) -> None:
        """Swap the policy: one assignment, for all requests that begin after it."""
        policy = new.policy
        follow(policy.observability.log_level)
        self.exchange.flush()
        self.exchange.adopt(policy)
        if policy.identity.trusted != old.policy.identity.trusted:
            for connection in self._listener.open:
                connection.look_at_peer()
        self._settle_by(policy)
        spawn(self._keep_in(policy), "store change")
        if self._leads:
            self.lead()
        self.metrics.keep({agent.name for agent in policy.agents.values()}, _models(policy))
        if self.on_adopted is not None:
            self.on_adopted()

    def _hash_users_with(self, key: bytes) -> None:
        self.exchange.units = Units(key)

    async def _keep_in(self, policy: Policy) -> None:
        await self.ledger.follow(policy.store, policy.observability.log_level)

    def _settle_by(self, policy: Policy) -> None:
        """Say who gets records, feedback, money and notices from now on."""
        url = policy.store.url
        self.alarms.follow(policy)
        self.export.adopt(policy)
        self.exchange.trace_share = self.export.trace_share
        self.exchange.sinks = self._sinks(policy)
        self.exchange.shadow.sinks = () if url is None else (self.ledger.take,)
        self.exchange.feedback = None if url is None else self.ledger.rate
        self.exchange.budgets.kept_in = "process" if url is None else kind_of(url)

    def _sinks(self, policy: Policy) -> tuple[Sink, ...]:
        """Where records go under `policy`."""
        sinks = [self.metrics.take, *self._given_sinks, *self.export.sinks]
        told = policy.observability
        if self._access.follow(1.0 if told.log_level == "debug" else told.access_log):
            sinks.append(self._access.take)
        if policy.store.url is not None:
            sinks.append(self.ledger.take)
        return tuple(sinks)

    def _flush(self, due: float) -> None:
        """Every `FLUSH_EVERY` seconds; at `due`, of `perf_counter`, where the loop is idle."""
        now = time.perf_counter()
        late = max(0.0, now - due)
        self.metrics.lag.observe(late)
        crowd = self.exchange.crowd
        crowd.look(late)
        self.exchange.flush()
        used, self._used = self._used, time.thread_time()
        idle = FLUSH_EVERY - late - (self._used - used)  # what a late loop has left is not idle
        self._listener.turnstile.turn(FLUSH_EVERY + late, idle, crowd.begins - self.exchange.in_flight)
        self.ledger.send()
        self.seen.recent.look(now)
        self._access.look(now)
        self._flushing = self._loop.call_later(FLUSH_EVERY, self._flush, now + FLUSH_EVERY)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0 and not self._hurry.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    def _known_models(self) -> frozenset[str]:
        policy, models = self._known_cache
        if policy is not self.exchange.policy:
            models = _models(self.exchange.policy)
            self._known_cache = (self.exchange.policy, models)
        return models

    def gauges(self) -> Iterator[Metric]:
        """All that is told beside what records are counted for."""
        exchange = self.exchange
        policy = exchange.policy
        yield gauge("splitlane_in_flight", "Requests being served.", exchange.in_flight)
        yield gauge("splitlane_buffered_bytes", "Request bodies held.", exchange.buffered.total)
        refused = CounterMetricFamily("splitlane_overload_refused", "Requests refused, by limit.", labels=["limit"])
        for limit, count in exchange.crowd.refused.items():
            refused.add_metric([limit], count)
        yield refused
        yield gauge("splitlane_tasks", "Tasks of the event loop.", len(asyncio.all_tasks(self._loop)))
        yield from self._listener.collect()
        rollout = GaugeMetricFamily("splitlane_rollout_percentage", "Share of users.", labels=["agent"])
        breaker = GaugeMetricFamily("splitlane_breaker_open", "1: the model is not called.", labels=["agent"])
        for agent in policy.agents.values():
            rollout.add_metric([agent.name], agent.percentage)
            breaker.add_metric([agent.name], exchange.attempts.breaker(agent.finetuned).is_open)
        yield rollout
        yield breaker
        yield from self.alarms.collect()
        yield from self.ledger.collect()
        yield from rollout_metrics(self.ledger.standing, policy)
        yield from policy_metrics(self.store)
        yield from budget_metrics(exchange.budgets, policy, time.time())
        yield from shadow_metrics(exchange.shadow)
        yield from self.probes.collect()
        yield from self.export.collect()
        yield CounterMetricFamily(
            "splitlane_log_dropped", "Log lines that nobody took from standard error in time.", value=log_lines.dropped
        )
        yield from self._access.collect()
        yield from self._peers.collect()
        yield from self._refusals.collect()
        yield from self._reporter.collect()


def _models(policy: Policy) -> frozenset[str]:
    """The models a metric's label may name."""
    return frozenset(
        model for agent in policy.agents.values() for model in (agent.finetuned.model, agent.baseline.model)
    )

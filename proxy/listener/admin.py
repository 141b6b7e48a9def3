"""The admin listener of one process: what its routes look at, and when it is open."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.admin.app import admin_app
from proxy.admin.dashboard import DashboardRoutes
from proxy.admin.dashboard_state import DashboardState
from proxy.admin.door import Door, Refusals
from proxy.admin.guard import Guard
from proxy.admin.health import HealthRoutes
from proxy.admin.orders import OrderRoutes
from proxy.admin.policy import PolicyRoutes
from proxy.admin.report import ReportRoutes
from proxy.admin.reporter import Reporter
from proxy.admin.rollout import RolloutRoutes
from proxy.admin.seen import Seen
from proxy.exchange.exchange import Exchange
from proxy.exchange.probes import Probes
from proxy.listener.alarms import Alarms
from proxy.policy.snapshot import Address
from proxy.policy.store import PolicyStore

log = logging.getLogger("splitlane.listener")

# Seconds in which a connection that was accepted just before a handover brings its request.
FIRST_REQUEST = 0.25
# Seconds that a request has for its end, once the listener closes.
END_WITHIN = 1.0


class AdminListener:
    """Answers while it is open; the event loop's."""

    def __init__(
        self,
        exchange: Exchange,
        store: PolicyStore,
        seen: Seen,
        probes: Probes,
        alarms: Alarms,
        reporter: Reporter,
        guard: Guard,
        refusals: Refusals,
        readiness: Callable[[], str],
    ) -> None:
        """`refusals`: where it counts whom it turns away; `readiness`: `ready` where new requests are welcome, else
        why not.
        """
        self._exchange = exchange
        self._store = store
        self._seen = seen
        self._probes = probes
        self._alarms = alarms
        self._reporter = reporter
        self._guard = guard
        self._refusals = refusals
        self._readiness = readiness
        self._runner: web.AppRunner | None = None
        self._dashboard: DashboardRoutes | None = None
        self._settled: Callable[[], Awaitable[None]] | None = None  # no order is being obeyed

    @property
    def is_open(self) -> bool:
        """Whether it answers."""
        return self._runner is not None and bool(self._runner.addresses)

    @property
    def address(self) -> Address:
        """Where it listens, once it is open."""
        assert self._runner is not None
        host, port, *_ = self._runner.addresses[0]
        return Address(host, port)

    async def open(self, where: Address | list[socket.socket]) -> None:
        """Answer there; raises OSError where an address is taken."""
        exchange, store, seen = self._exchange, self._store, self._seen
        health = HealthRoutes(exchange, seen, self._probes)
        may_act = self._guard.opens_something
        state = DashboardState(exchange, store, seen, health, self._readiness, may_act=may_act)
        dashboard = self._dashboard = DashboardRoutes(state, self._reporter)
        orders = OrderRoutes(store, self._guard, dashboard.changed)
        runner = web.AppRunner(
            admin_app(
                seen.collectors(),
                seen.refresh,
                self._readiness,
                PolicyRoutes(store, exchange.budgets, exchange.attempts.brakes, self._guard),
                health,
                RolloutRoutes(store, self._alarms.clear, orders),
                orders,
                ReportRoutes(self._reporter, lambda: exchange.policy.store.url is not None),
                dashboard,
                Door(_host_of(where), exchange.policy.listen.admin_hosts, self._refusals),
            ),
            access_log=None,
            shutdown_timeout=END_WITHIN,
        )
        await runner.setup()
        self._runner = runner
        self._settled = orders.settled
        sites: list[web.BaseSite] = (
            [web.TCPSite(runner, *where, reuse_address=True)]
            if isinstance(where, Address)
            else [web.SockSite(runner, each) for each in where]
        )
        for site in sites:
            await site.start()

    async def hand_over(self) -> None:
        """Take no more connections, for somebody else takes them, and hear those that were taken."""
        if (runner := self._runner) is not None:
            for site in list(runner.sites):
                await site.stop()
            await asyncio.sleep(FIRST_REQUEST)

    async def settle(self) -> None:
        """Close when the orders that were taken are carried out."""
        if self._settled is not None:
            await self._settled()
        await self.close()

    async def close(self) -> None:
        """Let everybody go."""
        if self._dashboard is not None:
            self._dashboard.stop()
        if (runner := self._runner) is not None:
            self._runner = None
            await runner.cleanup()
            await asyncio.sleep(0)  # let closed transports go


def _host_of(where: Address | list[socket.socket]) -> str:
    return where.host if isinstance(where, Address) else str(where[0].getsockname()[0])

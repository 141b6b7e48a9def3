"""The connections to one upstream: newest first, bounded, with a bounded wait."""

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from proxy.outbox import Outbox
from proxy.policy.snapshot import UpstreamPolicy
from proxy.upstream.connect import Resolver, open_connection, tls_context
from proxy.upstream.connection import Connection
from proxy.watchdog import HELD_UP
from proxy.words import Failure

# What this machine has run out of: files, ports or memory.  It says nothing of the upstream.
_OUR_OWN: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


class UpstreamError(Exception):
    """No connection could be had; nothing was sent."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(detail or failure.value)
        self.failure = failure


class Pool:
    """Connections to one upstream."""

    def __init__(
        self,
        upstream: UpstreamPolicy,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        outbox: Outbox,
        forget: Callable[["Pool"], None],
    ) -> None:
        self._outbox = outbox
        self._forget = forget
        self.upstream = upstream
        self.retired = False  # the upstream left the policy: no connection is kept, and then no pool
        self._reserved = 0  # places of connections that are being made, or may be
        self._live: set[Connection] = set()
        self._loop = loop
        self._resolver = resolver
        self._tls: ssl.SSLContext | None = None
        self._idle: list[Connection] = []
        self._waiting: dict[str, deque[asyncio.Future[Connection | None]]] = {}  # by agent, whose turn it is first

    def take(self) -> Connection | None:
        """The most recently used idle connection, if there is one; never waits."""
        return self._idle.pop() if self._idle else None

    async def connect(self, limit: float, agent: str = "", *, fresh: bool = False) -> Connection:
        """A new connection, or (unless `fresh`) one that comes free first; `limit` seconds at most.

        Where several wait, agents take turns.

        Raises UpstreamError: OVERLOAD (no place came free, or we may open no more), CONNECT, CONNECT_TIMEOUT.
        """
        until = self._loop.time() + limit
        policy = self.upstream.pool
        if self.open >= policy.max_connections:
            freed = await self._wait(min(policy.wait, limit), agent)
            if freed is not None:
                if not fresh:
                    return freed
                self._reserved += 1
                freed.close()
        else:
            self._reserved += 1
        return await self._open(until - self._loop.time())

    async def _open(self, limit: float) -> Connection:
        """A new connection in the place that is reserved for it."""
        try:
            if self.upstream.tls and self._tls is None:
                self._tls = tls_context(self.upstream.ca_file)
            connection = await self._connected(min(self.upstream.timeouts.connect, limit))
        except TimeoutError as error:
            raise UpstreamError(Failure.CONNECT_TIMEOUT) from error
        except OSError as error:
            failure = Failure.OVERLOAD if error.errno in _OUR_OWN else Failure.CONNECT
            raise UpstreamError(failure, type(error).__name__) from error
        else:
            if connection.closed:
                raise UpstreamError(Failure.CONNECT, "closed at once")
            self._live.add(connection)
            return connection
        finally:
            self._reserved -= 1
            self._offer_room()

    async def _connected(self, limit: float) -> Connection:
        """Connect within `limit` seconds; once more where not the peer but this process was late."""
        until = self._loop.time() + limit
        try:
            return await self._try(until)
        except TimeoutError:
            now = self._loop.time()
            if now - until < HELD_UP:
                raise
            return await self._try(now + limit)

    async def _try(self, until: float) -> Connection:
        async with asyncio.timeout_at(until):
            return await open_connection(
                self.upstream, self._resolver, self._tls, lambda: Connection(self._loop, self, self._outbox)
            )

    def released(self, connection: Connection) -> None:
        """A response ended cleanly: the connection goes to who waits, else to the idle ones."""
        connection.used = True
        if self._waiting and (waiter := self._next()) is not None:
            waiter.set_result(connection)
            return
        if self.retired:
            connection.close()
            return
        self._idle.append(connection)
        connection.watchdog.set(self._loop.time() + self.upstream.pool.keepalive)

    def lost(self, connection: Connection) -> None:
        """A connection closed."""
        if connection in self._live:
            self._live.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._offer_room()

    def close_idle(self) -> None:
        """Close what nobody uses."""
        for connection in list(self._idle):
            connection.close()

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """How many connections there are or soon will be; never above `max_connections`."""
        return len(self._live) + self._reserved

    def retire(self) -> None:
        """Keep no connection that nobody uses; requests in flight end in peace."""
        self.retired = True
        self.close_idle()
        if not self.open:
            self._forget(self)

    def _offer_room(self) -> None:
        """Tell the first that waits that it may open a connection of its own."""
        if self._waiting and self.open < self.upstream.pool.max_connections:
            waiter = self._next()
            if waiter is not None:
                self._reserved += 1
                waiter.set_result(None)
                return
        if self.retired and not self.open:
            self._forget(self)

    def _next(self) -> asyncio.Future[Connection | None] | None:
        """The first that waits of the agent whose turn it is; None: nobody does any more."""
        while self._waiting:
            agent = next(iter(self._waiting))
            line = self._waiting.pop(agent)
            while line:
                waiter = line.popleft()
                if not waiter.done():
                    if line:
                        self._waiting[agent] = line  # behind the others
                    return waiter
        return None

    async def _wait(self, limit: float, agent: str) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.setdefault(agent, deque()).append(waiter)
        try:
            async with asyncio.timeout(limit):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                freed = waiter.result()
                if freed is not None:
                    self.released(freed)
                else:
                    self._reserved -= 1
                    self._offer_room()
            if isinstance(error, TimeoutError):
                raise UpstreamError(Failure.OVERLOAD) from error
            raise


class Pools:
    """One pool per upstream; an upstream that a reload did not change keeps its pool.

    The pool of one that left the policy lives as long as a connection of it does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._outbox = outbox
        self._loop = loop
        self._resolver = Resolver(loop)
        self._pools: dict[UpstreamPolicy, Pool] = {}
        self._by_name: dict[str, Pool] = {}
        self._current: frozenset[UpstreamPolicy] = frozenset()

    def __len__(self) -> int:
        return len(self._pools)

    def of(self, upstream: UpstreamPolicy) -> Pool:
        """The upstream's pool."""
        pool = self._by_name.get(upstream.name)
        if pool is not None and pool.upstream is upstream:
            return pool  # spares hashing the whole policy on every request
        pool = self._pools.get(upstream)
        if pool is None:
            pool = self._pools[upstream] = Pool(upstream, self._loop, self._resolver, self._outbox, self._forget)
            pool.retired = upstream not in self._current  # asked for by a request of the policy before
        if not pool.retired:
            self._by_name[upstream.name] = pool
        return pool

    def keep(self, upstreams: Iterable[UpstreamPolicy]) -> None:
        """These are the policy's upstreams from now on: the pools of all others are retired."""
        self._current = frozenset(upstreams)
        self._by_name.clear()
        for upstream in self._current:
            if (pool := self._pools.get(upstream)) is not None:
                pool.upstream = upstream  # equal, but the object that requests will ask for
                pool.retired = False
        for upstream, pool in list(self._pools.items()):
            if upstream not in self._current:
                pool.retire()

    def _forget(self, pool: Pool) -> None:
        # Not its successor, where the upstream has come back meanwhile.
        if self._pools.get(pool.upstream) is pool:
            del self._pools[pool.upstream]

    def close_idle(self) -> None:
        """Close every connection that nobody uses."""
        for pool in self._pools.values():
            pool.close_idle()

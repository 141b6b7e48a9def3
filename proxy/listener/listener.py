"""What all connections of the data listener share."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, Metric

from proxy.exchange.client import Client
from proxy.listener.turnstile import Turnstile
from proxy.outbox import Outbox
from proxy.policy.snapshot import LimitsPolicy
from proxy.telemetry.metrics import gauge
from proxy.wire.errors import ErrorAnswer, failure_answer
from proxy.words import Failure

if TYPE_CHECKING:
    from proxy.listener.connection import ClientConnection

Handle = Callable[[Client], Awaitable[None]]

log: Final = logging.getLogger("splitlane.listener")

_FULL: Final = failure_answer(Failure.OVERLOAD)


class Listener:
    """What all client connections share: who serves them, and whether the process is draining."""

    def __init__(
        self,
        handler: Callable[[asyncio.BaseTransport], Handle],
        refuse: Callable[[Client, ErrorAnswer], None],
        limits: Callable[[], LimitsPolicy],
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
    ) -> None:
        """`handler`: who serves the requests of the peer at the other end; asked once a connection."""
        self.outbox = outbox
        self.handler = handler
        self.refuse = refuse
        self.limits = limits
        self.loop = loop
        self.draining = False
        self.open: set[ClientConnection] = set()
        self.turnstile = Turnstile(loop)
        self.turned_away = 0  # connections, because there were too many
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._files = soft if soft != resource.RLIM_INFINITY else 1 << 30

    @property
    def room(self) -> int:
        """How many connections there may be: half of what the process may open is for other things."""
        return min(self.limits().max_connections, self._files // 2)

    def collect(self) -> Iterator[Metric]:
        """The clients' connections as Prometheus sees them."""
        yield gauge("splitlane_connections", "Clients' connections.", len(self.open))
        yield gauge("splitlane_connections_held", "Those that were refused, and wait.", len(self.turnstile))
        yield CounterMetricFamily(
            "splitlane_connections_turned_away", "Connections over the limit.", value=self.turned_away
        )

    def turn_away(self, transport: asyncio.Transport) -> None:
        """Answer a connection for which there is no room before it has asked, and close it."""
        self.turned_away += 1
        if self.turned_away & (self.turned_away - 1) == 0:
            log.warning("%d connections are open: %d more turned away so far", len(self.open), self.turned_away)
        head = b"HTTP/1.1 503 Service Unavailable\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n"
        body = _FULL.body()
        transport.write(head % (_FULL.fields(), len(body)) + body)
        transport.close()

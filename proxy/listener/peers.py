"""Whose word is taken for who asks: decided by a peer's address, once a connection and again with a new policy."""

import asyncio
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from proxy.exchange.exchange import Exchange
from proxy.listener.listener import Handle
from proxy.policy.address import is_within


class Peers:
    """Who serves which peer under the active policy."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._strangers = 0

    def handler(self, transport: asyncio.BaseTransport) -> Handle:
        """Who serves the requests of the peer at the other end."""
        exchange = self._exchange
        trusted = exchange.policy.identity.trusted
        if trusted is None:
            return exchange.handle
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and is_within(trusted, str(peer[0])):
            return exchange.handle
        self._strangers += 1
        return exchange.handle_stranger

    def collect(self) -> Iterator[Metric]:
        """How many connections came from peers whose word is not taken."""
        yield CounterMetricFamily(
            "splitlane_untrusted_connections",
            "Connections from peers that are not in identity.trusted.",
            value=self._strangers,
        )

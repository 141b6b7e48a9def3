"""New connections: names to addresses, both families raced, TLS verified."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

import aiohappyeyeballs

from proxy.policy.snapshot import UpstreamPolicy
from proxy.tasks import spawn

P = TypeVar("P", bound=asyncio.Protocol)
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

# Long enough to spare a lookup per connection in a burst, short enough to follow a failover.
DNS_TTL = 10.0
# A name server that is down does not take an upstream down whose address was known a moment ago.
DNS_STALE = 300.0
# How long an old address waits for a newer one: a name server that hangs is one that is down.
DNS_PATIENCE = 0.1
# RFC 8305 §5: how long the first family may try before the second joins.
SECOND_FAMILY_DELAY = 0.25


class Resolver:
    """`getaddrinfo` with a short cache; one lookup in flight per name."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Addresses of `host`, both families.  Raises OSError where there are none."""
        key = (host, port)
        known = self._known.get(key)
        now = self._loop.time()
        if known is not None and now - known[0] < DNS_TTL:
            return known[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = spawn(self._ask(key), f"resolve {host}")
        if known is None or now - known[0] >= DNS_STALE:
            return await asyncio.shield(asking)
        try:
            async with asyncio.timeout(DNS_PATIENCE):
                return await asyncio.shield(asking)
        except OSError:  # a TimeoutError is one
            return known[1]

    async def _ask(self, key: tuple[str, int]) -> list[AddressInfo]:
        host, port = key
        try:
            flags = socket.AI_NUMERICHOST if _is_address(host) else socket.AI_ADDRCONFIG
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        finally:
            del self._asking[key]
        if not found:
            raise OSError(f"no address of {host}")
        self._known[key] = (self._loop.time(), found)  # type: ignore[assignment]
        return found  # type: ignore[return-value]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verified TLS: the system's authorities, or only those in `ca_file`.  Raises OSError."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def open_connection(
    upstream: UpstreamPolicy,
    resolver: Resolver,
    tls: ssl.SSLContext | None,
    protocol: Callable[[], P],
) -> P:
    """Connect and shake hands.  Raises OSError (ssl.SSLError is one).  The caller sets the time limit."""
    loop = asyncio.get_running_loop()
    addresses = await resolver.resolve(upstream.host, upstream.port)
    connected = await aiohappyeyeballs.start_connection(
        addresses, happy_eyeballs_delay=SECOND_FAMILY_DELAY, interleave=1, loop=loop
    )
    try:
        _, connection = await loop.create_connection(
            protocol,
            sock=connected,
            ssl=tls,
            server_hostname=upstream.host if tls is not None else None,
        )
    except BaseException:
        connected.close()
        raise
    return connection

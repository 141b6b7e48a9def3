"""The sockets that workers accept from.  They are the parent's, bound once and open as long as it serves.

- Every worker has its place, and every place a socket of its own at each of the data addresses (SO_REUSEPORT):
  the kernel spreads connections evenly over the places that listen.
- A socket outlives its worker: connections that wait in it are taken by whoever accepts there next.  Closing it
  would reset them.
"""

import errno
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

from proxy.policy.snapshot import Address


class Sockets(NamedTuple):
    """Bound, not listening; of each place as many as there are addresses."""

    places: list[list[socket.socket]]
    admin: list[socket.socket]

    @property
    def data(self) -> Address:
        """The data listener's address."""
        return _address_of(self.places[0][0])

    @property
    def front(self) -> Address:
        """The admin listener's address."""
        return _address_of(self.admin[0])

    def close(self) -> None:
        """Nothing is taken any more that only we have."""
        for each in (*self.admin, *(each for place in self.places for each in place)):
            each.close()


def bind(data: Address, admin: Address, workers: int) -> Sockets:
    """Raises OSError, with the address in its text, where one cannot be had."""
    bound = Sockets([[] for _ in range(workers)], [])
    try:
        for family, address in _resolve(admin):
            bound.admin.append(_bind(family, _at_port_of(bound.admin, address)))
        for family, address in _resolve(data):
            # With SO_REUSEPORT anybody of our user could be there already, unseen: ask without it.
            if address[1]:
                _bind(family, address).close()
            for place in bound.places:
                place.append(_bind(family, _at_port_of(bound.places[0], address), shared=True))
    except OSError:
        bound.close()
        raise
    return bound


def _resolve(address: Address) -> Iterator[tuple[socket.AddressFamily, tuple[str, int]]]:
    host, port = address
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
        yield family, (str(where[0]), int(where[1]))


def _at_port_of(others: list[socket.socket], address: tuple[str, int]) -> tuple[str, int]:
    """The address, at the port that the first socket got where any would do."""
    return (address[0], others[0].getsockname()[1]) if others and not address[1] else address


def _bind(family: socket.AddressFamily, address: tuple[str, int], *, shared: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        number = error.errno or errno.EADDRNOTAVAIL
        raise OSError(number, f"{address[0]}:{address[1]}: {os.strerror(number).lower()}") from None
    bound.setblocking(False)
    return bound


def _address_of(bound: socket.socket) -> Address:
    host, port, *_ = bound.getsockname()
    return Address(host, port)

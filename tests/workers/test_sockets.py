"""The parent's sockets: one port for all, refused where somebody listens, alive when a worker is not."""

import socket

import pytest

from proxy.policy.snapshot import Address
from proxy.workers.sockets import bind

ANY = Address("127.0.0.1", 0)


def test_every_place_has_a_socket_of_its_own_at_one_free_port() -> None:
    sockets = bind(ANY, ANY, 3)
    try:
        ports = {each.getsockname()[1] for place in sockets.places for each in place}
        assert len(sockets.places) == 3
        assert ports == {sockets.data.port}
        assert sockets.front.port not in {0, sockets.data.port}
    finally:
        sockets.close()


@pytest.mark.parametrize("shared", [False, True])
def test_address_where_somebody_listens_is_refused_by_name(shared: bool) -> None:
    """Also where it is another proxy of ours with workers, whose traffic we would take half of."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        taken.bind(tuple(ANY))
        taken.listen()
        port = taken.getsockname()[1]
        for data, admin in ((Address("127.0.0.1", port), ANY), (ANY, Address("127.0.0.1", port))):
            with pytest.raises(OSError, match=f"127.0.0.1:{port}: address already in use"):
                bind(data, admin, 2)


def test_connection_that_waits_is_taken_by_who_accepts_next() -> None:
    sockets = bind(ANY, ANY, 1)
    try:
        with sockets.places[0][0].dup() as first:
            first.listen()
            client = socket.create_connection(sockets.data)
        with client, sockets.places[0][0].dup() as second:
            second.setblocking(True)
            second.settimeout(5)
            served, _ = second.accept()
            with served:
                served.sendall(b"x")
            assert client.recv(2) == b"x"
    finally:
        sockets.close()

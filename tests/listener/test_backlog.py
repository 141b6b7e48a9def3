"""Connections that the kernel has made and nobody has accepted when a listener ends."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import pytest
import uvloop

from proxy.listener.backlog import stop_listening


class Echo(asyncio.Protocol):
    """Answers what it hears, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_who_waits_in_the_queue_is_served_and_nobody_else_comes_in(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def end_while_many_wait() -> list[bytes]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address, timeout=5) for _ in range(20)]  # the loop does not turn meanwhile
        try:
            assert await stop_listening(server, Echo) >= 19  # uvloop may have one in its hands
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)
            answers = []
            for client in clients:
                client.setblocking(False)
                await loop.sock_sendall(client, b"hello")
                async with asyncio.timeout(5):
                    answers.append(await loop.sock_recv(client, 100))
            return answers
        finally:
            for client in clients:
                client.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(end_while_many_wait()) == [b"hello"] * 20

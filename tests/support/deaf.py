"""A listener that never accepts, with its queue full: connecting to it takes for ever."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_listener(host: str = "127.0.0.1") -> Iterator[int]:
    """The port of such a listener; Linux drops what comes when the queue is full."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    waiting: list[socket.socket] = []
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen(0)
        try:
            for _ in range(4):
                waiting.append(socket.socket(family))
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for sock in waiting:
                sock.close()

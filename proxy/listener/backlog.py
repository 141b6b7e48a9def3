"""The end of a listening socket without harm to who waits in its queue.

The kernel makes connections before anybody accepts them, and resets those that nobody has accepted when
their socket closes.  With another process on the same port they would be its share no more: it is ours to serve them.
"""

import asyncio
import os
import socket
from collections.abc import Callable


async def stop_listening(server: asyncio.Server, connection: Callable[[], asyncio.Protocol]) -> int:
    """Close `server`; what the kernel has connected until then gets a `connection()`.  Returns how many."""
    loop = asyncio.get_running_loop()
    doubles = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
    server.close()  # the loop accepts no more; the doubles keep the sockets
    waiting: list[socket.socket] = []
    for double in doubles:
        with double:
            double.setblocking(False)
            try:
                while True:
                    waiting.append(double.accept()[0])
            except OSError:  # nobody waits any more, or there are no descriptors left
                pass
    for accepted in waiting:
        accepted.setblocking(False)
        await loop.connect_accepted_socket(connection, accepted)
    return len(waiting)

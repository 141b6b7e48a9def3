"""One request over one connection, and once more where a pooled one turns out to be closed."""

import asyncio
from collections.abc import Callable

from proxy.exchange.reply import Reply
from proxy.upstream.pool import Pool, UpstreamError
from proxy.words import Failure


async def send(
    pool: Pool,
    new_reply: Callable[[], Reply],
    request: bytes,
    total: float,
    loop: asyncio.AbstractEventLoop,
    *,
    head_only: bool = False,
) -> Reply:
    """Send `request` and wait until its reply has settled; `total` is the loop time to give up at.

    A peer may close an idle connection while we write to it.  That is no failure of the model and
    no retry: the request is resent once, on a connection that is new.
    """
    connection = pool.take()
    while True:
        reply = new_reply()
        pooled = connection is not None
        if connection is None:
            try:
                connection = await pool.connect(total - loop.time())
            except UpstreamError as error:
                reply.on_failure(error.failure)
                return reply
        reply.begin(connection, loop.time())
        connection.send(request, reply, head_only=head_only)
        try:
            await reply.settled
        except asyncio.CancelledError:
            connection.abort()
            raise
        if not (pooled and reply.failure is Failure.RESET and not connection.responded):
            return reply
        connection = None


def discard(reply: Reply) -> None:
    """Another answer is wanted: end what is still coming."""
    if reply.connection is not None and not reply.ended:
        reply.connection.abort()

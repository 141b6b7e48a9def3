"""The slow half of sending: a new connection, a second sending, an end before its time."""

import asyncio

from proxy.exchange.reply import Reply
from proxy.upstream.pool import Pool, UpstreamError


async def send_fresh(
    pool: Pool,
    request: bytes,
    reply: Reply,
    total: float,
    loop: asyncio.AbstractEventLoop,
    agent: str = "",
    *,
    head_only: bool = False,
) -> None:
    """Send where no idle connection was to be had, or the one there was turned out to be closed.

    A peer may close an idle connection while we write to it.  That is no failure of the model and
    no retry: the request is sent again once, on a connection that has not served before.  `total`
    is the loop time to give up at.
    """
    while True:
        again = reply.failure is not None
        if again:
            reply.restart(loop)
        try:
            connection = await pool.connect(total - loop.time(), agent, fresh=again)
        except UpstreamError as error:
            reply.on_failure(error.failure)
            return
        if head_only:
            connection.expect_no_body()
        connection.send(request, reply, reply.begin(connection, loop.time()))
        await reply.settled
        if again or not connection.used or not reply.is_stale:
            return


def discard(reply: Reply) -> None:
    """Another answer is wanted: end what is still coming."""
    if reply.connection is not None and not reply.ended:
        reply.connection.abort()

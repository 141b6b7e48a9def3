"""One request over one connection, and once more where a pooled one turns out to be closed."""

import asyncio

from proxy.exchange.reply import Reply
from proxy.upstream.pool import Pool, UpstreamError
from proxy.words import Failure


def send_pooled(
    pool: Pool, request: bytes, reply: Reply, loop: asyncio.AbstractEventLoop, *, head_only: bool = False
) -> bool:
    """Send on an idle connection; False where there is none.  Never waits."""
    connection = pool.take()
    if connection is None:
        return False
    connection.send(request, reply, reply.begin(connection, loop.time()), head_only=head_only)
    return True


async def settle(  # noqa: PLR0913
    pool: Pool,
    request: bytes,
    reply: Reply,
    total: float,
    loop: asyncio.AbstractEventLoop,
    *,
    sent: bool,
    head_only: bool = False,
) -> None:
    """Wait until `reply` has settled; first send, unless it is `sent` on a pooled connection.

    A peer may close an idle connection while we write to it.  That is no failure of the model and
    no retry: the request is sent again once, on another connection.  `total` is the loop time to
    give up at.
    """
    if sent:
        await reply.settled
        if not reply.is_stale:
            return
        reply.restart(loop)
    try:
        connection = await pool.connect(total - loop.time())
    except UpstreamError as error:
        reply.on_failure(error.failure)
        return
    connection.send(request, reply, reply.begin(connection, loop.time()), head_only=head_only)
    await reply.settled


def discard(reply: Reply) -> None:
    """Another answer is wanted: end what is still coming."""
    if reply.connection is not None and not reply.ended:
        reply.connection.abort()

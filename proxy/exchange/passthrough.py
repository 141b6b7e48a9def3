"""Every other route: bytes through, both ways, to one upstream, once.

A body that has arrived whole is sent with its length and may be resent on a stale connection; a
longer one is streamed on a connection of its own, which cannot be stale.
"""

import asyncio
import time
from typing import Any, Final

from proxy.exchange.call import CallState
from proxy.exchange.reply import Reply
from proxy.exchange.request import request_head
from proxy.exchange.send import send_fresh
from proxy.exchange.trace import traced
from proxy.policy.snapshot import UpstreamPolicy
from proxy.tasks import spawn
from proxy.upstream.connection import Connection
from proxy.upstream.pool import Pool, Pools, UpstreamError
from proxy.watchdog import NEVER

_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"


async def pass_through(call: CallState, pools: Pools, loop: asyncio.AbstractEventLoop) -> Reply:
    """The reply of the agent's baseline upstream, or of the default one; settled at its head."""
    upstream = call.agent.baseline.upstream if call.agent is not None else call.policy.default_upstream
    client = call.client
    pool = pools.of(upstream)
    whole = call.body.raw if call.body is not None else client.body_if_whole()

    reply = Reply(loop, upstream.timeouts, loop.time() + upstream.timeouts.stream)
    reply.expect_anything()
    call.reply = reply
    call.upstream = upstream.name
    call.asked = time.perf_counter()
    await _send(call, pool, reply, upstream, whole, loop)
    call.concluded(reply.status, reply.failure)
    return reply


async def _send(
    call: CallState,
    pool: Pool,
    reply: Reply,
    upstream: UpstreamPolicy,
    whole: bytes | None,
    loop: asyncio.AbstractEventLoop,
) -> None:
    if whole is None:
        await _stream(call, pool, reply, upstream)
        return
    framing = b"Content-Length: %d\r\n" % len(whole) if whole or b"content-length" in call.headers.read else b""
    request = _head(call, upstream, framing) + whole
    head_only = call.client.method == b"HEAD"
    connection = pool.take()
    if connection is not None:
        if head_only:
            connection.expect_no_body()
        connection.send(request, reply, reply.begin(connection, loop.time()))
        await reply.settled
    if connection is None or reply.is_stale:
        await send_fresh(pool, request, reply, call.deadline, loop, call.agent_name, head_only=head_only)


def _head(call: CallState, upstream: UpstreamPolicy, framing: bytes) -> bytes:
    encoding = call.headers.read.get(b"accept-encoding", b"identity")
    head = request_head(call.client.method, call.path, call.headers, upstream, framing, encoding)
    return head if call.trace is None else traced(call, head)


async def _stream(call: CallState, pool: Pool, reply: Reply, upstream: UpstreamPolicy) -> None:
    client = call.client
    length = call.headers.read.get(b"content-length")
    head = _head(call, upstream, _CHUNKED if length is None else b"Content-Length: %b\r\n" % length)
    try:
        limit = upstream.timeouts.connect + upstream.pool.wait
        connection = await pool.connect(limit, call.agent_name, fresh=True)
    except UpstreamError as error:
        reply.on_failure(error.failure)
        return
    connection.send_head(head, reply, reply.begin(connection, NEVER))
    if b"expect" in call.headers.read and not client.http_10:
        client.send_continue()
    await _send_body(call, connection, reply)
    await reply.settled


async def _send_body(call: CallState, connection: Connection, reply: Reply) -> None:
    """The client's body, piece by piece, until its end or until the upstream has answered already."""
    client = call.client
    chunked = b"content-length" not in call.headers.read
    loop = asyncio.get_running_loop()
    while True:
        reply.begin(connection, NEVER)  # waiting for the client is not the upstream's silence
        reading = spawn(client.body_chunk(), "upload")
        either: set[asyncio.Future[Any]] = {reading, reply.settled}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.cancel():
                reading.exception()  # seen, also where nobody will ask for the result
        if reply.settled.done():
            return
        piece = reading.result()
        connection.rearm(reply.begin(connection, loop.time()))
        if not piece:
            if chunked:
                await connection.send_more(b"0\r\n\r\n")
            connection.send_end()
            return
        client.body_progressed()
        await connection.send_more(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)

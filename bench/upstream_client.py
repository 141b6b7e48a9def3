"""Micro benchmark: Splitlane's upstream client beside aiohttp's ClientSession.

One process on the proxy's core sends the JSON case's requests straight to the nginx upstream, with one
client after the other in each round; the figure is requests per second of this process's CPU time.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import uvloop

from bench.contenders import UPSTREAM
from bench.fleet import Fleet
from bench.lineup import start_fixed_upstream
from bench.plan import BenchError, Cores
from bench.report import Column, Outcome, document, progress, table
from bench.spread import median_and_range
from proxy.exchange.reply import Reply
from proxy.exchange.send import send_fresh
from proxy.outbox import Outbox
from proxy.policy.load import load_policy
from proxy.upstream.pool import Pools

CONCURRENT = 32
PATH = "v1/chat/completions"
_WORDS = "Please summarise the following paragraph about contract law in plain language. " * 16
BODY = json.dumps(
    {
        "model": "legal_agent",
        "messages": [
            {"role": "system", "content": "You are the legal agent."},
            {"role": "user", "content": _WORDS},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
        "user": "user-1",
    }
).encode()

Post = Callable[[], Awaitable[int]]  # sends BODY once, reads the whole answer, returns its length


@contextlib.asynccontextmanager
async def splitlane_client() -> AsyncIterator[Post]:
    """Our client, called as the exchange calls it."""
    loop = asyncio.get_running_loop()
    policy = load_policy(Path(__file__).with_name("policy.yaml"), {})
    upstream = policy.default_upstream
    pools = Pools(loop, Outbox(loop))
    pool = pools.of(upstream)
    head = (
        b"POST /%b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer sk-bench\r\nContent-Length: %d\r\n\r\n"
    )
    request = head % (PATH.encode(), upstream.host_header, len(BODY)) + BODY

    async def post() -> int:
        now = loop.time()
        reply = Reply(loop, upstream.timeouts, now + upstream.timeouts.total)
        connection = pool.take()
        if connection is not None:
            connection.send(request, reply, reply.begin(connection, now))
            await reply.settled
        if connection is None or reply.is_stale:
            await send_fresh(pool, request, reply, now + upstream.timeouts.total, loop)
        if reply.status != 200 or not reply.ended:
            raise BenchError(f"splitlane got status {reply.status}, {reply.failure}")
        return len(reply.held)

    yield post
    pools.close_idle()


@contextlib.asynccontextmanager
async def aiohttp_client() -> AsyncIterator[Post]:
    """The rival, set up as a proxy would: no decompression, no cap below the concurrency."""
    connector = aiohttp.TCPConnector(limit=CONCURRENT)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=headers) as session:

        async def post() -> int:
            async with session.post(UPSTREAM + PATH, data=BODY) as response:
                answer = await response.read()
                if response.status != 200:
                    raise BenchError(f"aiohttp got status {response.status}")
                return len(answer)

        yield post


CLIENTS: dict[str, Callable[[], AbstractAsyncContextManager[Post]]] = {
    "aiohttp": aiohttp_client,
    "splitlane": splitlane_client,
}


async def measure(post: Post, seconds: float) -> float:
    """Requests per CPU second of CONCURRENT workers over `seconds`."""
    count = 0
    expected = await post()

    async def worker(deadline: float) -> None:
        nonlocal count
        while time.monotonic() < deadline:
            if await post() != expected:
                raise BenchError("answers differ in length")
            count += 1

    before = time.process_time()
    deadline = time.monotonic() + seconds
    await asyncio.gather(*(worker(deadline) for _ in range(CONCURRENT)))  # the first error, as it is
    return count / (time.process_time() - before)


async def rounds_of(names: list[str], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Requests per CPU second of each client and round; all clients stay open throughout."""
    measured: dict[str, list[float]] = {name: [] for name in names}
    async with contextlib.AsyncExitStack() as stack:
        posts = {name: await stack.enter_async_context(CLIENTS[name]()) for name in names}
        for post in posts.values():
            await measure(post, 0.5)  # connections opened, code warmed up
        for number in range(rounds):
            for name, post in posts.items():
                progress(f"upstream client: round {number + 1}/{rounds}: {name}")
                measured[name].append(await measure(post, seconds))
    return measured


def run(names: list[str], rounds: int, seconds: float) -> Outcome:
    """Start the upstream, measure, and compare with aiohttp."""
    cores = Cores.of_this_machine()
    with Fleet() as fleet:
        start_fixed_upstream(fleet, cores.load)
        os.sched_setaffinity(0, {cores.proxy})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measured = runner.run(rounds_of(names, rounds, seconds))
        fleet.check()
    rows: list[dict[str, object]] = []
    for name, figures in measured.items():
        row: dict[str, object] = {"client": name, "per_cpu_second": statistics.median(figures)}
        if "aiohttp" in measured:
            ratios = [ours / theirs for ours, theirs in zip(figures, measured["aiohttp"], strict=True)]
            row |= median_and_range("ratio", ratios)
        rows.append({**row, "rounds": figures})
    columns = (
        Column("client", "client"),
        Column("per_cpu_second", "requests per CPU second", "{:,.0f}"),
        Column("ratio", "ratio to aiohttp", "{:.2f}"),
        Column("ratio_min", "min", "{:.2f}"),
        Column("ratio_max", "max", "{:.2f}"),
    )
    return Outcome("upstream-client", {"rounds": rounds, "concurrent": CONCURRENT}, columns, rows)


def main() -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.upstream_client", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="per round and client")
    parser.add_argument("--only", choices=list(CLIENTS), help="one client alone")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    names = [options.only] if options.only else list(CLIENTS)
    try:
        outcome = run(names, options.rounds, options.seconds)
    except BenchError as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    progress("")
    print(json.dumps(document(outcome, quick=False), indent=1) if options.json else table(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the proxy.

examples:
  splitlane serve                                   policies/dev.yaml, or what GENESIS_ENV names
  GENESIS_ENV=production splitlane serve
  splitlane serve --policy my.yaml --listen 127.0.0.1:9000 --admin 127.0.0.1:9001

Then point the orchestrator's API base URL at http://127.0.0.1:8080/v1 (the mistralai SDK:
without /v1).  SIGTERM drains: requests in flight finish, new ones go elsewhere.
"""

import argparse
import asyncio
import gc
import logging
import os
import resource
import sys
from pathlib import Path

from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from proxy.listener.service import Address, Service
from proxy.policy.load import default_policy_path, load_policy
from proxy.policy.problems import PolicyError
from proxy.policy.snapshot import Policy
from proxy.telemetry.log import configure

try:
    import uvloop as fastest_loop
except ImportError:  # PyPy
    import asyncio as fastest_loop  # type: ignore[no-redef]

log = logging.getLogger("splitlane")


def address(text: str) -> Address:
    """`HOST:PORT`, `[V6]:PORT` or `:PORT` (all addresses)."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return Address(host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port))  # noqa: S104 what `:PORT` asks for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--policy", type=Path, help="policy file (default: policies/$GENESIS_ENV.yaml)")
    parser.add_argument("--listen", type=address, default=Address("127.0.0.1", 8080), metavar="HOST:PORT",
                        help="data listener (default: 127.0.0.1:8080)")  # fmt: skip
    parser.add_argument("--admin", type=address, default=Address("127.0.0.1", 8081), metavar="HOST:PORT",
                        help="admin listener: /livez, /readyz, /metrics (default: 127.0.0.1:8081)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    if HttpRequestParser is HttpRequestParserPy:
        print(
            "splitlane: aiohttp's C parser is missing; install an aiohttp wheel with extensions",
            file=sys.stderr,
        )
        return 1
    try:
        policy = load_policy(args.policy or default_policy_path(os.environ), os.environ)
    except PolicyError as error:
        print(error, file=sys.stderr)
        return 2
    configure(policy.log_level)
    _raise_descriptor_limit()
    with asyncio.Runner(loop_factory=fastest_loop.new_event_loop) as runner:
        return runner.run(_serve(policy, args.listen, args.admin))


async def _serve(policy: Policy, data: Address, admin: Address) -> int:
    service = Service(policy, data, admin)
    try:
        await service.start()
    except OSError as error:
        print(f"splitlane: cannot listen: {error}", file=sys.stderr)
        return 1
    _settle_heap()
    log.info(
        "serving %s: data %s:%d, admin %s:%d, policy %s",
        policy.environment,
        *service.data,
        *service.admin,
        policy.hash,
    )
    await service.run_until_signalled()
    return 0


def _settle_heap() -> None:
    """Take what start-up allocated out of the collector's sight.

    Requests leave next to no cycles, so a full collection would walk every module to free nothing,
    for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _raise_descriptor_limit() -> None:
    """Each request takes two descriptors; the usual soft limit of 1024 is too low for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

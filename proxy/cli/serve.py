"""Run the proxy.

examples:
  splitlane serve                                   policies/dev.yaml, or what GENESIS_ENV names
  GENESIS_ENV=production splitlane serve
  splitlane serve --policy my.yaml --listen 127.0.0.1:9000 --admin 127.0.0.1:9001

Then point the orchestrator's API base URL at http://127.0.0.1:8080/v1 (the mistralai SDK:
without /v1).  SIGTERM drains: requests in flight finish, new ones go elsewhere.  A changed policy
file is noticed at once where its folder can be watched, else within two seconds; SIGHUP reads it too.
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

from proxy.admin.guard import TokenError, token_of
from proxy.listener.service import Service
from proxy.policy.address import parse_address
from proxy.policy.load import default_policy_path
from proxy.policy.problems import PolicyError
from proxy.policy.snapshot import Address
from proxy.policy.store import PolicyStore
from proxy.telemetry.log import configure

try:
    import uvloop as fastest_loop
except ImportError:  # PyPy
    import asyncio as fastest_loop  # type: ignore[no-redef]

log = logging.getLogger("splitlane")


def address(text: str) -> Address:
    """The command line's form of `listen` in a policy; raises ArgumentTypeError."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}, got {text!r}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--policy", type=Path, help="policy file (default: policies/$GENESIS_ENV.yaml)")
    parser.add_argument("--listen", type=address, metavar="HOST:PORT",
                        help="data listener (default: listen.data of the policy, 127.0.0.1:8080)")  # fmt: skip
    parser.add_argument("--admin", type=address, metavar="HOST:PORT",
                        help="admin listener: /livez, /readyz, /metrics, /policy, /assign "
                             "(default: listen.admin of the policy, 127.0.0.1:8081)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    if HttpRequestParser is HttpRequestParserPy:
        print(
            "splitlane: aiohttp's C parser is missing; install an aiohttp wheel with extensions",
            file=sys.stderr,
        )
        return 1
    try:
        store = PolicyStore(args.policy or default_policy_path(os.environ), os.environ)
        token = token_of(os.environ)
    except PolicyError as error:
        print(error, file=sys.stderr)
        return 2
    except TokenError as error:
        print(f"splitlane: {error}", file=sys.stderr)
        return 2
    policy = store.active.policy
    configure(policy.observability.log_level)
    _raise_descriptor_limit()
    with asyncio.Runner(loop_factory=fastest_loop.new_event_loop) as runner:
        return runner.run(_serve(store, args.listen or policy.listen.data, args.admin or policy.listen.admin, token))


async def _serve(store: PolicyStore, data: Address, admin: Address, token: str | Path) -> int:
    policy = store.active.policy
    service = Service(store, data, admin, token=token)
    service.catch_signals()  # before anybody can know that there is a process to signal
    try:
        await service.start()
    except OSError as error:
        print(f"splitlane: cannot listen: {error}", file=sys.stderr)
        return 1
    _settle_heap()
    log.info(
        "serving %s: data %s, admin %s, policy %s",
        policy.environment,
        service.data,
        service.admin,
        policy.hash,
    )
    for warning in store.warnings:
        log.warning("%s", warning)
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

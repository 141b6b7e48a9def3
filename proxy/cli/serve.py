"""Run the proxy.

examples:
  splitlane serve                                   policies/dev.yaml, or what GENESIS_ENV names
  GENESIS_ENV=production splitlane serve
  splitlane serve --policy my.yaml --listen 127.0.0.1:9000 --admin 127.0.0.1:9001
  splitlane serve --workers 4                       four processes behind one port

Then point the orchestrator's API base URL at http://127.0.0.1:8080/v1 (the mistralai SDK:
without /v1).  SIGTERM drains: requests in flight finish, new ones go elsewhere.  A changed policy
file is noticed at once where its folder can be watched, else within two seconds; SIGHUP reads it too.
With --workers, SIGUSR2 starts the workers anew, one after the other, without a failed request.
"""

import argparse
import asyncio
import gc
import logging
import os
import sys
from pathlib import Path

from proxy.admin.guard import TokenError, token_of
from proxy.listener.process import NO_PARSER, fastest_loop, lacks_parser, raise_descriptor_limit, settle_heap
from proxy.policy.address import parse_address
from proxy.policy.load import default_policy_path
from proxy.policy.problems import PolicyError
from proxy.policy.snapshot import Address
from proxy.policy.store import PolicyStore
from proxy.telemetry.log import configure

log = logging.getLogger("splitlane")

MOST = 64  # workers


def address(text: str) -> Address:
    """The command line's form of `listen` in a policy; raises ArgumentTypeError."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}, got {text!r}") from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MOST}, got {text!r}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--policy", type=Path, help="policy file (default: policies/$GENESIS_ENV.yaml)")
    parser.add_argument("--listen", type=address, metavar="HOST:PORT",
                        help="data listener (default: listen.data of the policy, 127.0.0.1:8080)")  # fmt: skip
    parser.add_argument("--admin", type=address, metavar="HOST:PORT",
                        help="admin listener: /livez, /readyz, /metrics, /policy, /assign "
                             "(default: listen.admin of the policy, 127.0.0.1:8081)")  # fmt: skip
    parser.add_argument("--reuse-port", action="store_true",
                        help="share the data listener's port with other processes that say so, too: an upgrade starts "
                             "the new one beside the old one, with another --admin, and ends the old one")  # fmt: skip
    parser.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        default=1,
        help=f"processes that serve, behind one port and one admin listener: 1 (the default) to {MOST}",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    if args.reuse_port and args.workers > 1:
        print("--reuse-port: expected one worker; --workers are started anew by SIGUSR2", file=sys.stderr)
        return 2
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
    raise_descriptor_limit()
    data, admin = args.listen or policy.listen.data, args.admin or policy.listen.admin
    if args.workers == 1 and lacks_parser():  # a parent serves nothing; its workers look themselves
        print(NO_PARSER, file=sys.stderr)
        return 1
    with asyncio.Runner(loop_factory=fastest_loop.new_event_loop) as runner:
        if args.workers > 1:
            return runner.run(_supervise(store, data, admin, args.workers))
        return runner.run(_serve(store, data, admin, token, reuse_port=args.reuse_port))


async def _supervise(store: PolicyStore, data: Address, admin: Address, workers: int) -> int:
    from proxy.workers.sockets import bind  # noqa: PLC0415 what a process that serves alone does without
    from proxy.workers.supervisor import Supervisor  # noqa: PLC0415

    try:
        sockets = bind(data, admin, workers)
    except OSError as error:
        print(f"splitlane: cannot listen: {error}", file=sys.stderr)
        return 1
    supervisor = Supervisor(store.path, store.active.policy, sockets)
    supervisor.catch_signals()
    for warning in store.warnings:
        log.warning("%s", warning)
    if store.active.policy.store.url is None:
        log.warning("no store.url: each of the %d workers has budgets of its own", workers)
    return await supervisor.run()


async def _serve(store: PolicyStore, data: Address, admin: Address, token: str | Path, *, reuse_port: bool) -> int:
    gc.disable()  # until the heap has settled
    from proxy.listener.service import Service  # noqa: PLC0415 what a parent of workers does not carry about

    policy = store.active.policy
    service = Service(store, data, admin, token=token, reuse_port=reuse_port)
    service.catch_signals()  # before anybody can know that there is a process to signal
    try:
        await service.start()
    except OSError as error:
        print(f"splitlane: cannot listen: {error}", file=sys.stderr)
        return 1
    settle_heap()
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

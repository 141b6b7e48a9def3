"""What an order of `splitlane rollout` works with: the policy, its store, the lease, and who gives it."""

import argparse
import contextlib
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from proxy.experiment.controller import Controller
from proxy.experiment.lease import leased
from proxy.experiment.percentages import changes_for, switched_off
from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.migrate import migrate, version_of
from proxy.ledger.open import open_database, sqlite_path
from proxy.ledger.schema import MIGRATIONS
from proxy.policy.edit import EditedPolicy, edit_policy
from proxy.policy.load import LoadedPolicy, default_policy_path, read_policy
from proxy.policy.placeholders import Placeholders


class RolloutError(Exception):
    """What keeps an order from being obeyed, on one line."""


@contextlib.contextmanager
def looking(args: argparse.Namespace, env: Mapping[str, str]) -> Iterator[Controller]:
    """For an order that changes nothing.  Raises DatabaseUnavailable, PolicyError."""
    path, loaded = _policy(args, env)
    url = _store_url(args, path, loaded)
    file = sqlite_path(url)
    if file is not None and not file.exists():
        raise DatabaseUnavailable(f"there is no file {file}: no proxy has written to it yet")
    with contextlib.closing(open_database(url, read_only=True)) as database:
        if version_of(database) < len(MIGRATIONS):
            raise DatabaseUnavailable(
                "the store's tables are of an older version: restart the proxy, which updates them"
            )
        yield _controller(args, env, path, loaded, database)


@contextlib.contextmanager
def deciding(args: argparse.Namespace, env: Mapping[str, str]) -> Iterator[Controller]:
    """For an order that may change something: nobody else decides meanwhile.

    Raises Busy, DatabaseUnavailable, PolicyError, and RolloutError where percentages decide nothing.
    """
    path, loaded = _policy(args, env)
    with contextlib.closing(open_database(_store_url(args, path, loaded))) as database:
        migrate(database)
        with leased(database, f"{actor(args)}, process {os.getpid()}") as confirm:
            loaded = _policy(args, env)[1]  # another one may have changed it before its lease ended
            if off := switched_off(loaded.config):
                raise RolloutError(off)
            yield _controller(args, env, path, loaded, database, confirm)


def lower_without_the_store(
    args: argparse.Namespace, env: Mapping[str, str], target: float, error: Exception
) -> EditedPolicy:
    """Set a percentage that raises nobody's; raises `error` where it would."""
    path, loaded = _policy(args, env)
    names = chosen(loaded, args.agent)
    if any(loaded.policy.agents[name.encode()].percentage < target for name in names):
        raise error
    changes = changes_for(loaded, dict.fromkeys(names, target))
    dry = args.output != "file"
    return edit_policy(path, changes, Placeholders(env), dry_run=dry, expected=loaded.fingerprint)


def chosen(loaded: LoadedPolicy, names: Sequence[str]) -> list[str]:
    """The agents that are meant, in the policy's order; all where none is named.  Raises RolloutError."""
    known = [name.decode() for name in loaded.policy.agents]
    if unknown := [name for name in names if name not in known]:
        raise RolloutError(f"the policy has no agent {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    return [name for name in known if name in names or not names]


def actor(args: argparse.Namespace) -> str:
    """Who decides, as the history shows it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = str(os.getuid())
    who = args.by or f"{user}@{socket.gethostname()}"
    return f"run ({who})" if args.order == "run" else who


def _policy(args: argparse.Namespace, env: Mapping[str, str]) -> tuple[Path, LoadedPolicy]:
    path = args.policy or default_policy_path(env)
    return path, read_policy(path, Placeholders(env))


def _store_url(args: argparse.Namespace, path: Path, loaded: LoadedPolicy) -> str:
    url = args.store or loaded.policy.store.url
    if url is None:
        raise DatabaseUnavailable(f"{path} keeps no records: set store.url there, or name a store with --store")
    return str(url)


def _controller(
    args: argparse.Namespace,
    env: Mapping[str, str],
    path: Path,
    loaded: LoadedPolicy,
    database: Database,
    confirm: Callable[[], None] = lambda: None,
) -> Controller:
    return Controller(
        path, Placeholders(env), loaded, database, actor(args), time.time, apply=args.output == "file", confirm=confirm
    )

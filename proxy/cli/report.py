"""Say what happened to the requests that a store keeps: per agent and variant, users, success, latency,
cost, tokens, rescues, failures and feedback, over a window of time.

Nothing is read but sums by the hour, so the window's edges are rounded outwards to whole hours, and a
month of millions of requests takes seconds. SQLite is opened read-only: a proxy never waits for a report.

A time is 2026-11-20T00:00Z (without a zone: UTC), or how long ago it was: 90m, 24h, 7d.

Exit codes: 0 done, also where nothing happened; 2 there is no store, or it cannot be read.

examples:
  splitlane report                                        the last 24 hours of the default policy's store
  splitlane report --policy policies/production.yaml --since 7d --agent qa_agent
  splitlane report --store sqlite:///data/splitlane.db --since 2026-11-20T00:00Z --until 2026-11-21T00:00Z --md
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.migrate import version_of
from proxy.ledger.open import open_database, sqlite_path
from proxy.ledger.report import read_report, window_of
from proxy.ledger.report_text import json_of, lines_of, markdown_of
from proxy.policy.load import default_policy_path, load_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.units import parse_duration

_SCHEMES = ("sqlite:///", "postgresql://", "postgres://")


def moment(text: str) -> float:
    """Unix seconds of a time, or of a time ago; raises ArgumentTypeError."""
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a time such as 2026-11-20T00:00Z, or how long ago, such as 24h or 7d; got {text!r}"
        ) from None


def store_url(text: str) -> str:
    """A store's URL, which no error repeats: it may carry a password; raises ArgumentTypeError."""
    if not text.startswith(_SCHEMES):
        raise argparse.ArgumentTypeError("expected sqlite:///FILE or postgresql://…")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    store = parser.add_mutually_exclusive_group()
    store.add_argument("--policy", type=Path, metavar="FILE",
                       help="policy file that names the store (default: policies/$GENESIS_ENV.yaml)")  # fmt: skip
    store.add_argument("--store", type=store_url, metavar="URL", help="the store itself, as store.url names it")
    parser.add_argument("--since", type=moment, metavar="TIME", default="24h",
                        help="the window's start (default: 24h ago)")  # fmt: skip
    parser.add_argument("--until", type=moment, metavar="TIME", default="0s", help="the window's end (default: now)")
    parser.add_argument("--agent", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print one JSON object; shares are 0 … 1, times seconds")
    shape.add_argument("--md", action="store_true", help="print Markdown")


def run(args: argparse.Namespace) -> int:
    """Report; raises `PolicyError`."""
    if args.since >= args.until:
        return _failed("--since must be before --until")
    window = window_of(args.since, args.until)
    try:
        database = _open(args)
        try:
            version_of(database)
            report = read_report(database, window, args.agent)
        finally:
            database.close()
    except DatabaseUnavailable as error:
        return _failed(str(error))
    if args.json:
        print(json.dumps(json_of(report), ensure_ascii=False))
    else:
        print(*(markdown_of if args.md else lines_of)(report), sep="\n")
    return 0


def _open(args: argparse.Namespace) -> Database:
    """The store, for reading.  Raises DatabaseUnavailable, PolicyError."""
    url = args.store
    if url is None:
        path = args.policy or default_policy_path(os.environ)
        url = load_policy(path, Placeholders(os.environ)).store.url
        if url is None:
            raise DatabaseUnavailable(f"{path} keeps no records: set store.url there, or name a store with --store")
    file = sqlite_path(url)
    if file is not None and not file.exists():
        raise DatabaseUnavailable(f"there is no file {file}: no proxy has written to it yet")
    return open_database(url, read_only=True)


def _failed(message: str) -> int:
    print(f"splitlane report: {message}", file=sys.stderr)
    return 2

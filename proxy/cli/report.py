"""Say what follows from the requests that a store keeps, and what happened to them.

With a policy, given or found: per agent a recommendation in one sentence, then the evidence: stages, both
views, gates with their intervals and margins, health. Then, also with a store alone: users, success,
latency, cost, tokens, rescues, failures and feedback per variant, over a window of time.

Nothing is read but sums, so a month of millions of requests takes seconds; the window's edges are rounded
outwards to whole hours. SQLite is opened read-only: a proxy never waits for a report. Nothing is written
but what --output and --pictures name.

A time is 2026-11-20T00:00Z (without a zone: UTC), or how long ago it was: 90m, 24h, 7d.

Exit codes: 0 done, also where nothing happened; 1 a file cannot be written; 2 there is no store, or it
cannot be read.

examples:
  splitlane report                                        the last 24 hours of the default policy's store
  splitlane report --policy policies/production.yaml --since 7d --agent qa_agent
  splitlane report --policy policies/production.yaml --output reports/ab_testing_results.md
  splitlane report --store sqlite:///data/splitlane.db --since 2026-11-20T00:00Z --until 2026-11-21T00:00Z --md
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from proxy.cli.report_files import pictures_beside, write_pictures, write_whole
from proxy.experiment.full_report import VERDICTS_SINCE, FullReport, read_full_report
from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.migrate import version_of
from proxy.ledger.open import open_database, sqlite_path
from proxy.ledger.page import markdown_of as page_markdown
from proxy.ledger.page import text_of as page_text
from proxy.ledger.report import Report, read_report, window_of
from proxy.ledger.report_text import json_of, lines_of, markdown_of
from proxy.policy.load import LoadedPolicy, default_policy_path, read_policy
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
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="write Markdown (or JSON) to this file, in one step; pictures beside it")  # fmt: skip
    parser.add_argument("--pictures", type=Path, metavar="DIR",
                        help="draw pictures as SVG into this folder (with --output: FILE_pictures)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Report; raises `PolicyError`."""
    if args.since >= args.until:
        return _failed("--since must be before --until")
    try:
        url, loaded = _source(args)
        database = _open(url)
        try:
            version = version_of(database)
            window = read_report(database, window_of(args.since, args.until), args.agent)
            full = None
            if loaded is not None and version >= VERDICTS_SINCE:
                full = read_full_report(database, loaded, window, args.agent, time.time())
        finally:
            database.close()
    except DatabaseUnavailable as error:
        return _failed(str(error))
    try:
        text = "\n".join(_lines(args, window, full))
        if args.output is not None:
            write_whole(args.output, f"{text}\n")
    except OSError as error:
        return _failed(f"{error.filename or args.output}: cannot be written ({error.strerror or error})", 1)
    if args.output is None:
        print(text)
    return 0


def _lines(args: argparse.Namespace, window: Report, full: FullReport | None) -> Iterator[str]:
    """The report in the shape asked for.  Raises OSError."""
    markdown = args.md or args.output is not None
    if full is None:
        if args.json:
            yield json.dumps(json_of(window), ensure_ascii=False)
        else:
            yield from (markdown_of if markdown else lines_of)(window)
        return
    page = Path() if args.output is None else args.output.parent
    folder = args.pictures or (None if args.output is None or args.json else pictures_beside(args.output))
    pictures, note = ({}, "") if folder is None else write_pictures(folder, full.findings, page)
    if args.json:
        yield json.dumps(full.as_json(), ensure_ascii=False)
    else:
        yield from (page_markdown if markdown else page_text)(full.blocks(pictures, note))


def _source(args: argparse.Namespace) -> tuple[str, LoadedPolicy | None]:
    """The store's URL, and the policy that names it.  Raises DatabaseUnavailable, PolicyError."""
    if args.store is not None:
        return args.store, None
    path = args.policy or default_policy_path(os.environ)
    loaded = read_policy(path, Placeholders(os.environ))
    url = loaded.policy.store.url
    if url is None:
        raise DatabaseUnavailable(f"{path} keeps no records: set store.url there, or name a store with --store")
    return url, loaded


def _open(url: str) -> Database:
    """The store, for reading.  Raises DatabaseUnavailable."""
    file = sqlite_path(url)
    if file is not None and not file.exists():
        raise DatabaseUnavailable(f"there is no file {file}: no proxy has written to it yet")
    return open_database(url, read_only=True)


def _failed(message: str, code: int = 2) -> int:
    print(f"splitlane report: {message}", file=sys.stderr)
    return code

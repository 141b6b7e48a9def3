"""All faults at once against a real `splitlane serve` with a ledger in SQLite, for a stated time.

    python -m bench.chaos                        # 30 seconds: make chaos
    python -m bench.chaos --seconds 600 --seed 7 --json

What is drawn, and what a client may expect, is in `tests/support/chaos.py`. Faults come from the model, from both
networks, from clients that leave, and from upstreams that are down for a moment. At the end the proxy is asked to
stop, and clients, metrics and store must agree on every request. Exit codes: 0 they do; 1 an invariant is broken,
which is printed; 2 wrong arguments; 130 interrupted.
"""

import argparse
import asyncio
import json
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from proxy.cli.progress import Progress
from tests.support.chaos import Account, Chaos
from tests.support.served import Served, serving, write_policy

AT_ONCE = 40
# What is still on its way when the last client has gone: a record, an upstream's time-out.
SETTLE = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run, as its clients, the proxy's metrics and its store saw it."""

    seconds: float
    seed: int
    faults: dict[str, int]  # drawn, by kind
    downs: int
    sent: int  # requests
    stayed: int  # … of clients that waited for the answer
    answered: int
    whole: int
    broken: int  # broken off, visibly
    rescued: int
    lost: int  # clients that waited, and got nothing
    wrong: list[str]  # answers that are none
    outcomes: dict[str, int]  # of `model_requests_total`
    records: int  # in the store
    twice: int  # … of them, under an id that another has, too
    unknown: int  # answers whose id is not in the store, or stands there with another status
    dropped: int  # by the ledger
    in_flight: int
    buffered: int
    exit_code: int

    def violations(self) -> list[str]:
        """Every invariant that is broken; empty: none is."""
        counted = sum(self.outcomes.values())
        rules = (
            (not self.lost, f"{self.lost} clients waited and got no answer"),
            (not self.wrong, f"{len(self.wrong)} answers are none; the first: {self.wrong[:1]}"),
            (counted == self.sent, f"{self.sent} requests were sent, {counted} outcomes are counted"),
            (self.records == self.sent, f"{self.sent} requests were sent, {self.records} records are in the store"),
            (not self.twice, f"{self.twice} records stand in the store twice"),
            (not self.unknown, f"{self.unknown} answers have no record, or one with another status"),
            (not self.dropped, f"{self.dropped} records were dropped"),
            (not self.in_flight, f"{self.in_flight} requests are still in flight"),
            (not self.buffered, f"{self.buffered} bytes of bodies are still held"),
            (not self.exit_code, f"the proxy ended with exit code {self.exit_code}"),
        )
        return [text for holds, text in rules if not holds]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long requests are sent (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (%(default)s)")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="clients (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the result for a machine")
    args = parser.parse_args(argv)
    if not (args.seconds > 0 and args.at_once > 0):
        parser.error("--seconds and --at-once: expected more than 0")
    try:
        result = asyncio.run(_run(args.seconds, args.seed, args.at_once))
    except KeyboardInterrupt:
        return 130
    violations = result.violations()
    print(json.dumps({**asdict(result), "violations": violations}, indent=1) if args.json else text_of(result))
    for violation in violations:
        print(f"broken: {violation}", file=sys.stderr)
    return 1 if violations else 0


async def _run(seconds: float, seed: int, at_once: int) -> Result:
    with TemporaryDirectory() as folder:
        database = Path(folder, "chaos.db")
        async with Chaos(seed) as chaos:
            store = {"url": f"sqlite:///{database}"}
            policy = write_policy(Path(folder), chaos.baseline.url, **chaos.sections(), store=store)
            async with serving(policy) as proxy:
                await _load(chaos, proxy, seconds, at_once)
                await chaos.calm_down()
                page = await _settled(proxy, chaos.account.sent)
                proxy.terminate()
                code = await proxy.exit_code(60)
        return _result(chaos.account, seconds, seed, page, code, database)


async def _load(chaos: Chaos, proxy: Served, seconds: float, at_once: int) -> None:
    """Clients one after the other, so many at a time, until the time is over."""
    end = time.monotonic() + seconds

    async def clients() -> None:
        while time.monotonic() < end:
            await chaos.ask("127.0.0.1", proxy.data)

    async def tell() -> None:
        with Progress("chaos: seconds", round(seconds)) as progress:
            for _ in range(int(seconds)):
                await asyncio.sleep(1)
                progress.step()

    telling = asyncio.create_task(tell())
    try:
        await asyncio.gather(*(clients() for _ in range(at_once)))
    finally:
        telling.cancel()
        await asyncio.wait([telling])


class _Page:
    """A scrape's samples."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def sum(self, name: str) -> int:
        """Over all series of that name."""
        return sum(int(float(line.rpartition(" ")[2])) for line in self._lines if re.match(rf"{name}[ {{]", line))

    def outcomes(self) -> Counter[str]:
        """Requests by outcome."""
        found: Counter[str] = Counter()
        for line in self._lines:
            if line.startswith("model_requests_total{") and (named := re.search(r'outcome="(\w+)"', line)):
                found[named[1]] += int(float(line.rpartition(" ")[2]))
        return +found


async def _settled(proxy: Served, sent: int) -> _Page:
    """The metrics, once every request is settled, or has had the time to."""
    end = time.monotonic() + SETTLE
    while True:
        page = _Page((await proxy.ask_admin("/metrics")).body.decode())
        done = page.sum("model_requests_total") >= sent and not page.sum("splitlane_in_flight")
        if done or time.monotonic() > end:
            return page
        await asyncio.sleep(0.1)


def _result(account: Account, seconds: float, seed: int, page: _Page, code: int, database: Path) -> Result:
    connection = sqlite3.connect(database)
    rows: list[tuple[str, int]] = connection.execute("SELECT id, status FROM requests").fetchall()
    connection.close()
    stored = dict(rows)
    return Result(
        seconds,
        seed,
        dict(sorted(account.faults.items())),
        sum(number for name, number in account.faults.items() if name.endswith("Down")),
        account.sent,
        account.stayed,
        account.answered,
        account.whole,
        account.broken,
        account.rescued,
        account.lost,
        account.wrong[:20],
        dict(page.outcomes().most_common()),
        len(rows),
        len(rows) - len(stored),
        sum(1 for name, status in account.seen.items() if stored.get(name) != status),
        page.sum("splitlane_ledger_dropped_total"),
        page.sum("splitlane_in_flight"),
        page.sum("splitlane_buffered_bytes"),
        code,
    )


def text_of(result: Result) -> str:
    """The run in a few lines."""
    kinds: Counter[str] = Counter()
    for name, number in result.faults.items():
        kinds[name.rpartition(" ")[0]] += number
    drawn = ", ".join(f"{name} {number:,}" for name, number in kinds.most_common())
    outcomes = ", ".join(f"{name} {number:,}" for name, number in result.outcomes.items())
    errors = result.answered - result.whole - result.broken
    rows: list[tuple[str, Any]] = [
        ("time", f"{result.seconds:g} s, seed {result.seed}"),
        ("faults drawn", f"{sum(result.faults.values()):,}: {drawn}"),
        ("upstreams down", f"{result.downs:,} times"),
        ("requests sent", f"{result.sent:,}, {result.stayed:,} by clients that waited"),
        (
            "answered",
            f"{result.answered:,}: {result.whole:,} whole, {result.broken:,} broken off, {errors:,} errors",
        ),
        ("rescued", f"{result.rescued:,}"),
        ("lost", f"{result.lost:,}"),
        ("outcomes", f"{sum(result.outcomes.values()):,}: {outcomes}"),
        ("records", f"{result.records:,}; lost {result.sent - result.records:,}, twice {result.twice:,}"),
        ("still held", f"{result.in_flight:,} requests, {result.buffered:,} bytes"),
    ]
    return "\n".join(f"{name:<15} {value}" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main())

"""How long `splitlane report` takes on a store that many requests have gone through.

    python -m bench.report_scale                      # 10,000,000 requests of 100,000 users in 30 days
    python -m bench.report_scale --rows 500000 --users 5000 --days 7

The store is made anew in a temporary folder (10,000,000 requests: 0.8 GB, two minutes). Every request is
drawn at random, hour by hour, and added to the same sums that the ledger keeps; each user comes at random
hours, which makes as many visits as there can be. Then the real command reports on it, as a process of its own.
"""

import argparse
import hashlib
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proxy.ledger.row import bin_of
from proxy.ledger.schema import MIGRATIONS

AGENTS = 5
FINETUNED_EVERY = 4  # users
MAX_ROWS, MAX_USERS, MAX_DAYS = 20_000_000, 1_000_000, 90

_DRAW = """
INSERT INTO draws
WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
SELECT abs(random()) % ?, abs(random()) % 100 < 99, abs(random()) % 100 < 3,
       ? + (abs(random()) % 20 + abs(random()) % 20 + abs(random()) % 20),
       abs(random()) % 900 + 100, abs(random()) % 400 + 20
FROM numbers
"""
_SPREAD = (
    """
    INSERT INTO hours
    SELECT ?, agent, assignment, assignment, count(*), sum(ok), sum(ok AND NOT rescued), sum(rescued), count(*),
           sum(bin) / 30.0, sum(bin) / 90.0, sum(input), sum(output), 0, 0, 0, sum(input + output) * 5e-7, 0, 0
    FROM drawn GROUP BY agent, assignment
    """,
    (
        "INSERT INTO reasons SELECT ?, agent, assignment, assignment, 'failure', 'rate_limited', count(*)"
        " FROM drawn WHERE NOT ok GROUP BY agent, assignment"
    ),
    (
        "INSERT INTO reasons SELECT ?, agent, assignment, assignment, 'fallback', 'server_error', count(*)"
        " FROM drawn WHERE rescued GROUP BY agent, assignment"
    ),
    (
        "INSERT INTO bins SELECT ?, agent, assignment, assignment, 'latency', bin, count(*)"
        " FROM drawn GROUP BY agent, assignment, bin"
    ),
    (
        "INSERT INTO bins SELECT ?, agent, assignment, assignment, 'ttft', bin - 20, count(*)"
        " FROM drawn GROUP BY agent, assignment, bin"
    ),
    "INSERT INTO visits SELECT DISTINCT ?, agent, assignment, assignment, unit FROM drawn ORDER BY 2, 3, 5",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help=f"requests, at most {MAX_ROWS:,}")
    parser.add_argument("--users", type=int, default=100_000, help=f"at most {MAX_USERS:,}")
    parser.add_argument("--days", type=int, default=30, help=f"at most {MAX_DAYS}")
    args = parser.parse_args()
    if not (0 < args.rows <= MAX_ROWS and 0 < args.users <= MAX_USERS and 0 < args.days <= MAX_DAYS):
        parser.error("a number out of its bounds")
    folder = Path(tempfile.mkdtemp(prefix="splitlane-report-"))
    try:
        path = folder / "store.db"
        visits = fill(path, args.rows, args.users, args.days)
        size = sum(each.stat().st_size for each in folder.iterdir()) / 1e9
        print(f"{args.rows:,} requests of {args.users:,} users in {args.days} days: {visits:,} visits, {size:.2f} GB")
        for since in dict.fromkeys(("24h", "7d", f"{args.days}d")):
            seconds, processor = report(path, since)
            print(f"report --since {since:<4} {seconds:6.2f} s, {processor:.2f} s of processor time")
    finally:
        shutil.rmtree(folder)
    return 0


def fill(path: Path, rows: int, users: int, days: int) -> int:
    """Make the store; how many visits it has."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    for statement in MIGRATIONS[0]:
        database.execute(statement.format(bare=" WITHOUT ROWID"))
    database.execute("CREATE TABLE schema_version (version integer NOT NULL)")
    database.execute("INSERT INTO schema_version VALUES (?)", (len(MIGRATIONS),))
    database.execute("CREATE TEMPORARY TABLE people (number integer PRIMARY KEY, agent, assignment, unit)")
    database.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", map(person, range(users)))
    database.execute("CREATE TEMPORARY TABLE draws (number integer, ok, rescued, bin, input, output)")
    database.execute("CREATE TEMPORARY VIEW drawn AS SELECT * FROM draws JOIN people USING (number)")
    hours = days * 24
    first, fastest = int(time.time() // 3600) - hours, bin_of(0.3)
    for number in range(hours):
        database.execute("BEGIN")
        database.execute("DELETE FROM draws")
        share = rows * (number + 1) // hours - rows * number // hours
        database.execute(_DRAW, (share, users, fastest))
        for statement in _SPREAD:
            database.execute(statement, (first + number,))
        database.execute("COMMIT")
        if sys.stderr.isatty() or (number + 1) % (hours // 10 or 1) == 0:
            print(f"\rfilled {(number + 1) / hours:4.0%}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    visits = int(database.execute("SELECT count(*) FROM visits").fetchone()[0])
    database.close()
    return visits


def person(number: int) -> tuple[int, str, str, str]:
    unit = hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()
    assignment = "baseline" if number % FINETUNED_EVERY else "finetuned"
    return number, f"agent_{number % AGENTS}", assignment, unit


def report(path: Path, since: str) -> tuple[float, float]:
    """Seconds that the whole command takes, its start included, and of processor time."""
    command = [sys.executable, "-m", "proxy", "report", "--store", f"sqlite:///{path}", "--since", since, "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())

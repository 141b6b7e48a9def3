"""Stores for the tests: real files, filled with records and with sums that are made here, row by row."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.ledger.database import Database
from proxy.ledger.migrate import migrate
from proxy.ledger.open import open_database
from proxy.ledger.row import COLUMNS
from proxy.words import Assignment, Attempt, Decision, Failure, Record, Usage, Variant
from tests.support.records import SOUND, row_of

HOUR = 3600
# A Friday, on the hour.
START = 1_700_000_000.0 // HOUR * HOUR
SALT = "qa_agent/ft:m"

_NOT_STORED = ("latency_bin", "ttft_bin")
_SUMMED = ("latency", "input", "output", "cached", "reasoning", "estimated", "cost")


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@contextmanager
def opened(path: Path, *, read_only: bool = False) -> Iterator[Database]:
    """The database of a file."""
    database = open_database(url_of(path), read_only=read_only)
    try:
        yield database
    finally:
        database.close()


def make_store(path: Path) -> Path:
    """An empty store."""
    with opened(path) as database:
        migrate(database)
    return path


def record(number: int, user: str = "", **changes: Any) -> Record:
    """A request of a fine-tuned user, answered at once; its id and its answer's id come from `number`."""
    variant = changes.pop("variant", Variant.FINETUNED)
    assignment = changes.pop("assignment", Assignment(variant.value))
    bucket = changes.pop("bucket", 5 if variant is Variant.FINETUNED else 5000)
    plain = replace(
        SOUND,
        request_id=f"0190-{number:08d}",
        time=START,
        decision=Decision(variant, assignment, bucket),
        percentage=10.0,
        served="m",
        attempts=(attempt(),),
        latency=1.0,
        ttft=-1.0,
        usage=None,
        cost=0.0,
        response_id=f"chatcmpl-{number}",
        unit=user,
    )
    return replace(plain, **changes)


def attempt(failure: Failure | None = None, usage: Usage | None = None) -> Attempt:
    return Attempt("up", "m", 200 if failure is None else 500, failure, 0.0, 0.9, usage, 0.0)


def insert(database: Database, records: Iterable[Record]) -> None:
    """Requests and their sums, one row after the other."""
    with database.transaction():
        for each in records:
            _insert(database, each)


def _insert(database: Database, each: Record) -> None:
    row: dict[str, Any] = dict(zip((name for name, _ in COLUMNS), row_of(each)[0], strict=True))
    stored = {name: value for name, value in row.items() if name not in _NOT_STORED}
    _add(database, "requests", stored, {})
    if row["route"] != "chat":
        return
    counts = {
        "requests": 1,
        "ok": int(row["failure"] == ""),
        "first_ok": row["first_ok"],
        "fallbacks": int(row["fallback"] != ""),
    }
    rated = {"rated": 0, "score": 0.0}
    where = {name: row[name] for name in ("hour", "agent", "assignment", "variant")}
    _add(database, "hours", where, {
        **counts, **{name: row[name] for name in _SUMMED}, **rated,
        "streams": int(row["ttft"] is not None), "ttft": row["ttft"] or 0.0,
    })  # fmt: skip
    for kind in ("failure", "fallback"):
        if row[kind]:
            _add(database, "reasons", {**where, "kind": kind, "reason": row[kind]}, {"requests": 1})
    for kind in ("latency", "ttft"):
        if row[f"{kind}_bin"] is not None:
            _add(database, "bins", {**where, "kind": kind, "bin": row[f"{kind}_bin"]}, {"requests": 1})
    if row["unit"]:
        _add(database, "visits", {**where, "unit": row["unit"]}, {})
    if row["bucket"] >= 0 and row["assignment"] in ("finetuned", "baseline"):
        keys = {name: row[name] for name in ("agent", "salt", "percentage", "bucket", "variant")}
        rescued = int(row["fallback"] not in ("", "budget", "brake"))
        sums = {**counts, "fallbacks": rescued, "cost": row["cost"], "latency": row["latency"], **rated}
        _add(database, "rollups", {**keys, "last_hour": row["hour"]}, sums, keys=tuple(keys))


def merge(into: Database, other: Database) -> None:
    """Add the rows of the additive tables to those that are there."""
    tables = {
        "hours": ("hour", "agent", "assignment", "variant"),
        "reasons": ("hour", "agent", "assignment", "variant", "kind", "reason"),
        "bins": ("hour", "agent", "assignment", "variant", "kind", "bin"),
        "visits": ("hour", "agent", "assignment", "variant", "unit"),
    }
    with into.transaction():
        for table, keys in tables.items():
            names = [name for _, name, *_ in other.execute(f"PRAGMA table_info({table})")]
            for values in other.execute(f"SELECT * FROM {table}"):
                row = dict(zip(names, values, strict=True))
                key = {name: row.pop(name) for name in keys}
                _add(into, table, key, row)


def _add(
    database: Database, table: str, values: dict[str, Any], sums: dict[str, Any], keys: tuple[str, ...] = ()
) -> None:
    row = {**values, **sums}
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in sums)
    conflict = f"({', '.join(keys or values)}) DO UPDATE SET {added}" if sums else "DO NOTHING"
    database.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) ON CONFLICT {conflict}",
        tuple(row.values()),
    )

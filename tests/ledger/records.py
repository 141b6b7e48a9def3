"""Records as the exchange makes them, and a store to put them in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from proxy.ids import Ids
from proxy.ledger.batch import Batch, prepare, write
from proxy.ledger.database import Database
from proxy.ledger.migrate import migrate
from proxy.ledger.open import open_database
from proxy.words import Assignment, Attempt, Decision, Record, Usage, Variant
from tests.support.records import SOUND, row_of

NOW = 1_795_000_000.0
HOUR = int(NOW // 3600)
SALT = "qa_agent/ft:m"
_ids = Ids()


def record(**changes: Any) -> Record:
    """A sound answer of the baseline to a user of its arm, for 0.25 dollars."""
    time = changes.get("time", NOW)
    usage = Usage(100, 50)
    plain = replace(
        SOUND,
        request_id=_ids.new(time),
        time=time,
        decision=Decision(Variant.BASELINE, Assignment.BASELINE, 7794),
        percentage=25.0,
        served="m",
        attempts=(Attempt("up", "m", 200, None, 0.001, 0.4, usage, 0.25),),
        latency=0.42,
        ttft=-1.0,
        usage=usage,
        cost=0.25,
        unit="a" * 32,
    )
    return replace(plain, **changes)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """The store, with its tables, as the writer has it."""
    database = open_database(url)
    try:
        migrate(database)
        prepare(database)
        yield database
    finally:
        database.close()


def keep(database: Database, records: Sequence[Record], name: str = "batch-1", proxy: str = "p") -> int:
    """Write records as one batch."""
    return write(database, Batch(name, [row_of(each) for each in records]), proxy, NOW).rows


def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    return int(database.execute(f"SELECT count(*) FROM {table}")[0][0])

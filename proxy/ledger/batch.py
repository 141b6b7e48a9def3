"""Writing one batch: all of it once, or, where a row is poison, all of it but that row."""

from collections.abc import Sequence
from typing import NamedTuple

from proxy.ledger import statements
from proxy.ledger.database import Database, RowRejected
from proxy.ledger.row import Row


class Batch(NamedTuple):
    """Rows that are written together; the id makes a second sending count once."""

    id: str
    rows: Sequence[Row]


def prepare(database: Database) -> None:
    """What a connection needs before the first batch."""
    for statement in statements.CREATE_BATCH:
        database.execute(statement)


def write(database: Database, batch: Batch, proxy: str, now: float) -> int:
    """Write a batch; how many of its rows the database took.  Raises DatabaseUnavailable: send it again.

    A batch with a row that the database refuses is halved until that row stands alone, and is kept
    aside in `rejected`.  The halves have ids of their own, so a batch that is cut off in the middle of
    that is taken up where it stopped.
    """
    try:
        with database.transaction():
            _write(database, batch, proxy, now)
    except RowRejected as rejection:
        if len(batch.rows) == 1:
            _keep_aside(database, batch, str(rejection), now)
            return 0
        middle = len(batch.rows) // 2
        return sum(
            write(database, Batch(f"{batch.id}.{half}", rows), proxy, now)
            for half, rows in enumerate((batch.rows[:middle], batch.rows[middle:]))
        )
    return len(batch.rows)


def _write(database: Database, batch: Batch, proxy: str, now: float) -> None:
    if not database.execute(statements.NAME_BATCH, (batch.id, now)):
        return  # it was committed, and the answer to that was lost
    for statement in statements.EMPTY_BATCH:
        database.execute(statement)
    database.load(batch.rows)
    for statement in statements.SPREAD_BATCH:
        database.execute(statement)
    database.execute(statements.ADD_SPEND, (proxy,))


def _keep_aside(database: Database, batch: Batch, error: str, now: float) -> None:
    content = ascii(batch.rows[0])
    database.execute(statements.KEEP_REJECTED, (batch.id, now, error, content))

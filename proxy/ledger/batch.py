"""Writing one batch: all of it once, or, where something in it is poison, all of it but that."""

from collections.abc import Sequence
from typing import NamedTuple

from proxy.ledger import statements
from proxy.ledger.database import Database, RowRejected
from proxy.ledger.feedback import keep
from proxy.ledger.row import Row


class Batch(NamedTuple):
    """What is written together; the id makes a second sending count once."""

    id: str
    rows: Sequence[Row]
    feedback: Sequence[bytes] = ()


class Kept(NamedTuple):
    """How much of a batch the database took."""

    rows: int
    feedback: int


def prepare(database: Database) -> None:
    """What a connection needs before the first batch."""
    for statement in statements.CREATE_BATCH:
        database.execute(statement)


def write(database: Database, batch: Batch, proxy: str, now: float) -> Kept:
    """Write a batch.  Raises DatabaseUnavailable: send it again.

    A batch with something that the database refuses is halved until that stands alone, and is kept aside
    in `rejected`.  The halves have ids of their own, so a batch that is cut off in the middle of that is
    taken up where it stopped.
    """
    try:
        with database.transaction():
            _write(database, batch, proxy, now)
    except RowRejected as rejection:
        halves = _halves(batch)
        if halves is None:
            content = ascii(batch.rows[0] if batch.rows else batch.feedback[0])
            database.execute(statements.KEEP_REJECTED, (batch.id, now, str(rejection), content))
            return Kept(0, 0)
        first, second = (write(database, half, proxy, now) for half in halves)
        return Kept(first.rows + second.rows, first.feedback + second.feedback)
    return Kept(len(batch.rows), len(batch.feedback))


def _write(database: Database, batch: Batch, proxy: str, now: float) -> None:
    if not database.execute(statements.NAME_BATCH, (batch.id, now)):
        return  # it was committed, and the answer to that was lost
    if batch.rows:
        for statement in statements.EMPTY_BATCH:
            database.execute(statement)
        database.load(batch.rows)
        for statement in statements.SPREAD_BATCH:
            database.execute(statement)
        database.execute(statements.ADD_SPEND, (proxy,))
    if batch.feedback:
        keep(database, batch.feedback)


def _halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """The batch in two; None where it is a single thing."""
    name, rows, feedback = batch
    if rows and feedback:
        return Batch(f"{name}.0", rows), Batch(f"{name}.1", (), feedback)
    middle = len(rows or feedback) // 2
    if not middle:
        return None
    if rows:
        return Batch(f"{name}.0", rows[:middle]), Batch(f"{name}.1", rows[middle:])
    return Batch(f"{name}.0", (), feedback[:middle]), Batch(f"{name}.1", (), feedback[middle:])

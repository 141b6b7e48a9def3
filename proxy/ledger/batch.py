"""Writing one batch: all of it once, or, where something in it is poison, all of it but that."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from proxy.ledger import statements
from proxy.ledger.brakes import Command, apply
from proxy.ledger.database import Database, RowRejected
from proxy.ledger.feedback import keep
from proxy.ledger.row import Row


class Batch(NamedTuple):
    """What is written together; the id makes a second sending count once."""

    id: str
    rows: Sequence[Row]
    feedback: Sequence[bytes] = ()
    commands: Sequence[Command] = ()


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
            content = ascii(next(part[0] for part in batch[1:] if part))
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
    for command in batch.commands:
        apply(database, command)


def _halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """The batch in two; None where it is a single thing."""
    parts: list[Sequence[Any]] = [batch.rows, batch.feedback, batch.commands]
    first: list[Sequence[Any]] = [(), (), ()]
    filled = [place for place, part in enumerate(parts) if part]
    place = filled[0]
    part = parts[place]
    cut = len(part) if len(filled) > 1 else len(part) // 2
    if not cut:
        return None
    first[place], parts[place] = part[:cut], part[cut:]
    return Batch(f"{batch.id}.0", *first), Batch(f"{batch.id}.1", *parts)

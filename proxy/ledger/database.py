"""What the ledger asks of a database.  `sqlite.py` and `postgres.py` are the two there are.

Statements are the same for both: `?` stands for a parameter, upserts are `ON CONFLICT`, and a
`SELECT` in front of one has a `WHERE`.  The few words in which they differ are their `Dialect`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Row = tuple[Any, ...]


class DatabaseUnavailable(Exception):  # noqa: N818 it passes by itself, more often than not
    """The database cannot be used now: down, locked, full, read-only.  Nothing of a transaction was kept."""


class RowRejected(Exception):  # noqa: N818 the row's fault, not the database's
    """The database is well, and will not take what it was given."""


class Dialect(NamedTuple):
    """Words that differ."""

    bare: str  # after a table's definition: no hidden row number
    exclusive: str  # a statement that keeps other proxies out until the transaction ends; may be empty
    elements: str  # FROM: the elements of the JSON array {array}, as {alias}.value and {alias}.key
    first_key: int  # the key of an array's first element
    item: str  # an expression: item {index} of the JSON array {alias}.value as SQL type {type}


class Database(Protocol):
    """One connection, used by one thread."""

    dialect: Dialect

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: committed at its end, rolled back where it raises."""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows.  Raises DatabaseUnavailable, RowRejected."""

    @property
    def lost(self) -> bool:
        """Whether what is written no longer goes where the URL says: its file was moved or deleted."""

    def close(self) -> None:
        """Let go of it; never raises."""

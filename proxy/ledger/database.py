"""What the ledger asks of a database.  `sqlite.py` and `postgres.py` are the two there are.

Statements are the same for both: `?` stands for a parameter, upserts are `ON CONFLICT`, and a
`SELECT` in front of one has a `WHERE`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from proxy.ledger.row import Row

Answer = tuple[Any, ...]


class DatabaseUnavailable(Exception):  # noqa: N818 it passes by itself, more often than not
    """The database cannot be used now: down, locked, full, read-only.  Nothing of a transaction was kept."""


class RowRejected(Exception):  # noqa: N818 the row's fault, not the database's
    """The database is well, and will not take what it was given."""


class Database(Protocol):
    """One connection, used by one thread."""

    bare: str  # what follows a table's definition: that it has no hidden row number
    exclusive: str  # a statement that keeps other proxies out until the transaction ends; empty: each does
    still: str  # likewise: others from adding to the rollups

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: committed at its end, rolled back where it raises."""

    def reading(self) -> AbstractContextManager[None]:
        """What is read in it is of one moment; it keeps nobody from writing."""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Answer]:
        """The rows.  Raises DatabaseUnavailable, RowRejected."""

    def load(self, rows: Sequence[Row]) -> None:
        """Put rows, as `row` makes them, into the tables `batch` and `batch_attempts`.

        Raises DatabaseUnavailable, RowRejected.
        """

    @property
    def lost(self) -> bool:
        """Whether what is written no longer goes where the URL says: its file was moved or deleted."""

    def close(self) -> None:
        """Let go of it; never raises."""

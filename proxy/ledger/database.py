"""What the ledger asks of a database.  `sqlite.py` and `postgres.py` are the two there are.

Statements are the same for both: `?` stands for a parameter, upserts are `ON CONFLICT`, and a
`SELECT` in front of one ends with `WHERE true`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class DatabaseUnavailable(Exception):  # noqa: N818 it passes by itself, more often than not
    """The database cannot be used now: down, locked, full, read-only.  Nothing of a transaction was kept."""


class RowRejected(Exception):  # noqa: N818
    """The database is well, and will not take what it was given."""


class Database(Protocol):
    """One connection, used by one thread."""

    bare: str  # what follows a table's definition: see `schema`

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: committed at its end, rolled back where it raises."""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows.  Raises DatabaseUnavailable, RowRejected."""

    def close(self) -> None:
        """Let go of it; never raises."""

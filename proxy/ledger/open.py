"""From a store's URL to a database."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from proxy.ledger.database import Database, DatabaseUnavailable, Row, RowRejected

SQLITE = "sqlite:///"


class SqliteDatabase:
    """A connection to one file."""

    bare = " WITHOUT ROWID"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open.  Raises DatabaseUnavailable."""
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        try:
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"{path}: {error}") from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute(self._begin)
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self.execute("COMMIT")

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise RowRejected(str(error)) from None
        except sqlite3.Error as error:
            raise DatabaseUnavailable(str(error)) from None

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def sqlite_path(url: str) -> Path | None:
    """The file that a URL names; None where it names a server."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def open_database(url: str, *, read_only: bool = False) -> Database:
    """The database.  `read_only`: for a look; it locks nobody out.  Raises DatabaseUnavailable."""
    path = sqlite_path(url)
    if path is None:
        raise DatabaseUnavailable("the PostgreSQL driver is missing; pip install 'splitlane[postgres]'")
    return SqliteDatabase(path, read_only=read_only)

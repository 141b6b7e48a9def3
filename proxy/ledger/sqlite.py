"""SQLite: the embedded store, for one host.

In WAL mode readers and the writer do not wait for each other.  `synchronous=NORMAL` survives the death
of the process with all that was committed; a power cut may take the last moments, never the file.
A file that is no sound database is moved aside and a new one begun: it may be of use to somebody, but
not to us.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from proxy.ledger.database import Answer, DatabaseUnavailable, RowRejected
from proxy.ledger.row import ATTEMPT_COLUMNS, COLUMNS, Row, Values

log = logging.getLogger("splitlane.ledger")

# Seconds to wait for another process's transaction before the whole one is tried again.
BUSY = 5.0
# What belongs to a database, by what is added to its file's name.
COMPANIONS = ("", "-wal", "-shm")

# The values' fault, not the database's.
_REFUSALS = (
    sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError,
    UnicodeEncodeError,
)  # fmt: skip
# Rows of a statement, at most: SQLite takes some ten thousand values in one.
BOUND = 128


class DatabaseCorrupt(DatabaseUnavailable):
    """The file is not a sound database."""


class SqliteDatabase:
    """A connection to one file."""

    bare = " WITHOUT ROWID"
    still = exclusive = ""  # transactions begin IMMEDIATE

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open, or create with its folder.  Raises DatabaseUnavailable."""
        self.path = path
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        try:
            if read_only:
                self._connection = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY, isolation_level=None
                )
            else:
                _make_private(path)
                self._connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseUnavailable(f"{path}: {error}") from None
        try:
            if not read_only:
                self._write_ahead()
                self.execute("PRAGMA synchronous = NORMAL")
                self.execute("PRAGMA temp_store = MEMORY")
                # A page that is written a hundred times is copied to the file once.
                self.execute("PRAGMA wal_autocheckpoint = 4096")
                self.execute("PRAGMA journal_size_limit = 67108864")
                self.execute("PRAGMA cache_size = -8192")
                path.chmod(0o600)
            self._file = _identity(path)
        except OSError as error:
            self.close()
            raise DatabaseUnavailable(f"{path}: {error}") from None
        except DatabaseUnavailable:
            self.close()
            raise

    def _write_ahead(self) -> None:
        """SQLite does not wait by itself where several processes make this change at once."""
        late = time.monotonic() + BUSY
        while True:
            try:
                self.execute("PRAGMA journal_mode = WAL")
            except DatabaseUnavailable as error:
                if "locked" not in str(error) or time.monotonic() >= late:
                    raise
                time.sleep(0.01)
            else:
                return

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._from(self._begin)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        return self._from("BEGIN")

    @contextlib.contextmanager
    def _from(self, begin: str) -> Iterator[None]:
        self.execute(begin)
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Answer]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except _REFUSALS as error:
            raise RowRejected(str(error)) from None
        except sqlite3.Error as error:
            text = str(error)
            corrupt = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
            raise (DatabaseCorrupt if corrupt else DatabaseUnavailable)(f"{self.path}: {text}") from None

    def load(self, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), BOUND):
            some = rows[start : start + BOUND]
            self._insert("batch", COLUMNS, [columns for columns, _ in some])
            self._insert("batch_attempts", ATTEMPT_COLUMNS, [attempt for _, attempts in some for attempt in attempts])

    def _insert(self, table: str, columns: tuple[tuple[str, str], ...], rows: list[Values]) -> None:
        """In statements whose sizes are powers of two: those are kept prepared."""
        one = f"({', '.join('?' * len(columns))})"
        left, start = len(rows), 0
        while left:
            count = 1 << (left.bit_length() - 1)
            values = list(chain.from_iterable(rows[start : start + count]))
            if len(values) != count * len(columns):
                raise RowRejected(f"not {len(columns)} values in each row")
            self.execute(f"INSERT INTO {table} VALUES {', '.join([one] * count)}", values)
            left, start = left - count, start + count

    @property
    def lost(self) -> bool:
        try:
            return _identity(self.path) != self._file
        except OSError:
            return True

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _make_private(path: Path) -> None:
    """Make an empty file that nobody else may read, in a folder likewise, where there is none; raises OSError.

    An existing file is not even opened: to close it would drop the locks that this process holds on it.
    """
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def set_aside_if_unsound(path: Path) -> None:
    """Read all of the file; one that is not sound is moved aside.  Raises DatabaseUnavailable."""
    try:
        database = SqliteDatabase(path)
        try:
            faults = [text for (text,) in database.execute("PRAGMA quick_check(1)") if text != "ok"]
        finally:
            database.close()
    except DatabaseCorrupt as error:
        faults = [str(error)]
    if faults:
        _set_aside(path, faults[0])


def _set_aside(path: Path, fault: str) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    try:
        for companion in COMPANIONS:
            source = path.with_name(path.name + companion)
            if source.exists():
                source.rename(aside.with_name(aside.name + companion))
    except OSError as error:
        raise DatabaseUnavailable(f"{path}: {error}") from None
    log.error("%s is not a sound database (%s): moved to %s, a new one is begun", path, fault, aside.name)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino

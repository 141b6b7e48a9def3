"""PostgreSQL: the store that several proxies share.  Needs `splitlane[postgres]`."""

import contextlib
from collections.abc import Iterator, Sequence

import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict

from proxy.ledger.database import Answer, DatabaseUnavailable, RowRejected
from proxy.ledger.row import ATTEMPT_COLUMNS, COLUMNS, Row, Values


# The server takes the rows apart: each statement has all of them as one JSON array.
def _load(table: str, columns: tuple[tuple[str, str], ...]) -> str:
    items = ", ".join(f"(rows.value->>{index})::{kind}" for index, (_, kind) in enumerate(columns))
    return f"INSERT INTO {table} SELECT {items} FROM jsonb_array_elements(?::jsonb) AS rows(value)"


LOAD = _load("batch", COLUMNS)
LOAD_ATTEMPTS = _load("batch_attempts", ATTEMPT_COLUMNS)

# A server that hangs is told from a slow one after this many seconds; statements take milliseconds.
PATIENCE = 10
CONNECT = 5


class PostgresDatabase:
    """A connection to one server."""

    bare = ""
    # A number of our own.  What it is for, changing tables, may take its time.
    exclusive = "SELECT pg_advisory_xact_lock(7311422105), set_config('statement_timeout', '0', true)"
    still = "LOCK TABLE rollups IN EXCLUSIVE MODE"
    lost = False  # the server knows where it writes

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect.  Raises DatabaseUnavailable."""
        milliseconds = PATIENCE * 1000
        options = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        if read_only:
            # A report is of one moment, and may take its time.
            options = "-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
        if not _is_readable(url):
            raise DatabaseUnavailable("the store's URL is not one of PostgreSQL's: write special characters as %XX")
        try:
            self._connection = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=CONNECT,
                application_name="splitlane",
                options=options,
                keepalives_idle=PATIENCE,
                tcp_user_timeout=milliseconds,
            )
        except psycopg.Error as error:
            raise DatabaseUnavailable(_told(error)) from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            raise DatabaseUnavailable(_told(error)) from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self.transaction():
            self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Answer]:
        query = statement.replace("?", "%s")
        try:
            cursor = self._connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description is not None else []
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RowRejected(_told(error)) from None
        except psycopg.Error as error:
            raise DatabaseUnavailable(_told(error)) from None

    def load(self, rows: Sequence[Row]) -> None:
        self._insert(LOAD, [columns for columns, _ in rows])
        self._insert(LOAD_ATTEMPTS, [attempt for _, attempts in rows for attempt in attempts])

    def _insert(self, statement: str, rows: list[Values]) -> None:
        try:
            document = orjson.dumps(rows).decode()
        except orjson.JSONEncodeError as error:
            raise RowRejected(str(error)) from None
        self.execute(statement, (document,))

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


def _is_readable(url: str) -> bool:
    """Whether libpq takes the URL apart as was meant: where not, it would quote pieces of the password."""
    try:
        found = conninfo_to_dict(url)
    except psycopg.Error:
        return False
    # A password with a `/` ends as the port, and one with an `@` in the host.
    return "@" not in str(found.get("host")) and str(found.get("port", "0")).replace(",", "").isdigit()


def _told(error: psycopg.Error) -> str:
    """What the server says, on one line, without the values it quotes."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split())

"""From a store's URL to a database."""

from pathlib import Path

from proxy.ledger.database import Database, DatabaseUnavailable

SQLITE = "sqlite:///"


def sqlite_path(url: str) -> Path | None:
    """The file that a URL names; None where it names a server."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def kind_of(url: str) -> str:
    """`sqlite` or `postgresql`."""
    return "postgresql" if sqlite_path(url) is None else "sqlite"


def open_database(url: str, *, read_only: bool = False) -> Database:
    """The database.  `read_only`: for a look; it locks nobody out.  Raises DatabaseUnavailable."""
    path = sqlite_path(url)
    if path is not None:
        from proxy.ledger.sqlite import SqliteDatabase  # noqa: PLC0415 only where there is a store

        return SqliteDatabase(path, read_only=read_only)
    try:
        from proxy.ledger.postgres import PostgresDatabase  # noqa: PLC0415 an extra
    except ImportError:
        raise DatabaseUnavailable("the PostgreSQL driver is missing; pip install 'splitlane[postgres]'") from None
    return PostgresDatabase(url, read_only=read_only)


def set_aside_if_corrupt(url: str, error: DatabaseUnavailable) -> None:
    """After `error`: a file that turns out to be no sound database makes way.  Raises DatabaseUnavailable."""
    path = sqlite_path(url)
    if path is not None:
        from proxy.ledger.sqlite import DatabaseCorrupt, set_aside_if_unsound  # noqa: PLC0415

        if isinstance(error, DatabaseCorrupt):
            set_aside_if_unsound(path)

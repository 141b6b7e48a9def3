"""Brings a database's tables to this version; several proxies may start at once."""

from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.schema import MIGRATIONS


class NewerSchema(DatabaseUnavailable):
    """A newer version of the proxy has changed the tables."""


def migrate(database: Database) -> None:
    """Run what has not been run.  Raises DatabaseUnavailable: also where the database is newer than we are."""
    with database.transaction():
        if database.exclusive:
            database.execute(database.exclusive)
        database.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
        found = version_of(database)
        for version, statements in enumerate(MIGRATIONS[found:], found + 1):
            for statement in statements:
                database.execute(statement.format(bare=database.bare))
            database.execute("DELETE FROM schema_version")
            database.execute("INSERT INTO schema_version VALUES (?)", (version,))


def version_of(database: Database) -> int:
    """The version of the tables; 0: none are there.  Raises NewerSchema."""
    rows = database.execute("SELECT version FROM schema_version")
    version = int(rows[0][0]) if rows else 0
    if version > len(MIGRATIONS):
        raise NewerSchema(
            f"the store has tables of version {version}, this splitlane knows {len(MIGRATIONS)}: upgrade splitlane"
        )
    return version

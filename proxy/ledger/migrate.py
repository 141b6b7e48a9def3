"""The version of a database's tables."""

from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.schema import MIGRATIONS


class NewerSchema(DatabaseUnavailable):
    """A newer version of the proxy has changed the tables."""


def version_of(database: Database) -> int:
    """The version of the tables; 0: none are there.  Raises NewerSchema."""
    rows = database.execute("SELECT version FROM schema_version")
    version = int(rows[0][0]) if rows else 0
    if version > len(MIGRATIONS):
        raise NewerSchema(
            f"the store has tables of version {version}, this splitlane knows {len(MIGRATIONS)}: upgrade splitlane"
        )
    return version

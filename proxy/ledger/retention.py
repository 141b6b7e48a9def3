"""Forgetting what is older than the policy wants, a little at a time.

Each step is a short transaction of its own, between two batches: deleting a month never holds up the
records of a second.
"""

from proxy.ids import lowest_id
from proxy.ledger.database import Database

# Rows per step: a few milliseconds.
STEP = 500

# Each takes a bound and a number of rows.  Ids are UUIDv7: a time is a bound on them.
_BY_ID = (
    (
        "DELETE FROM attempts WHERE (request_id, number) IN"
        " (SELECT request_id, number FROM attempts WHERE request_id < ? ORDER BY request_id LIMIT ?)"
    ),
    "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE id < ? ORDER BY id LIMIT ?)",
)
_BY_TIME = tuple(
    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE time < ? LIMIT ?)"
    for table in ("batches", "feedback", "rejected")
)
_BRAKES = "DELETE FROM brakes WHERE id IN (SELECT id FROM brakes WHERE cleared < ? LIMIT ?)"
# Decisions are few, and asked for long afterwards.
_DECISIONS = "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE time < ? LIMIT ?)"
DECISIONS_STAY = 10  # times as long as everything else
_KEYS_BY_HOUR = {
    "hours": "hour, agent, assignment, variant",
    "reasons": "hour, agent, assignment, variant, kind, reason",
    "bins": "hour, agent, assignment, variant, kind, bin",
    "visits": "hour, agent, assignment, variant, unit",
    "spend": "hour, agent, proxy",
}
_BY_HOUR = tuple(
    f"DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE hour < ? LIMIT ?)"
    for table, keys in _KEYS_BY_HOUR.items()
)
# A stage is forgotten as a whole, when nobody has been in it for so long: its sums belong together.
_LIVING = (
    "SELECT 1 FROM rollups AS living WHERE living.agent = old.agent AND living.salt = old.salt"
    " AND living.percentage = old.percentage AND living.last_hour >= ?"
)
_KEYS_OF_STAGES = {
    "exposures": "agent, salt, percentage, unit",
    "rollups": "agent, salt, percentage, bucket, variant",
    "stages": "agent, salt, percentage",
}
_STAGES = tuple(
    f"DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} AS old WHERE NOT EXISTS ({_LIVING}) LIMIT ?)"
    for table, keys in _KEYS_OF_STAGES.items()
)

Step = tuple[str, object]


def steps(now: float, retention: float) -> list[Step]:
    """What there is to forget at Unix time `now`: statements, each with its bound; `retention` in seconds."""
    oldest = max(0.0, now - retention)
    hour = int(oldest // 3600)
    return [
        *((statement, lowest_id(oldest)) for statement in _BY_ID),
        *((statement, oldest) for statement in _BY_TIME),
        *((statement, hour) for statement in (*_BY_HOUR, *_STAGES)),
        (_BRAKES, oldest),
        (_DECISIONS, max(0.0, now - DECISIONS_STAY * retention)),
    ]


def forget(database: Database, step: Step) -> bool:
    """Take a step; whether there may be more to it.  Raises DatabaseUnavailable."""
    statement, bound = step
    with database.transaction():
        return len(database.execute(f"{statement} RETURNING 1", (bound, STEP))) == STEP

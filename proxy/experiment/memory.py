"""What a rollout remembers: its decisions, what waits for a person, the smallest p-values, who is deciding."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from proxy.experiment.actions import MOVES
from proxy.experiment.evidence import Hold
from proxy.ledger.database import Answer, Database


class Decision(NamedTuple):
    """What was done with one agent's ramp, and why."""

    id: str  # a UUIDv7
    time: float  # Unix seconds
    agent: str
    salt: str
    percentage: float  # before it
    action: str
    target: float | None  # the percentage after it; None: it stays
    reasons: tuple[str, ...]
    actor: str
    evidence: Mapping[str, object]  # the numbers it rested on; plain JSON


def record(database: Database, decision: Decision) -> None:
    """Keep a decision; one that is there already stays."""
    *plain, reasons, actor, evidence = decision
    database.execute(_RECORD, (*plain, orjson.dumps(reasons).decode(), actor, orjson.dumps(evidence).decode()))


def history(database: Database, agent: str | None = None, limit: int = 100) -> list[Decision]:
    """The latest decisions, newest first; of one agent, or of all."""
    where, parameters = ("", ()) if agent is None else ("WHERE agent = ?", (agent,))
    return [_decision(row) for row in database.execute(_HISTORY.format(where), (*parameters, limit))]


def moved_to(database: Database, agent: str, salt: str, percentage: float) -> float | None:
    """Unix seconds of the latest decision that set this percentage; None: there is none."""
    ((time,),) = database.execute(_MOVED, (agent, salt, percentage, *map(str, MOVES)))
    return None if time is None else float(time)


def put_hold(database: Database, agent: str, hold: Hold, actor: str) -> None:
    """Keep the ramp from moving; in place of what held it before."""
    database.execute(_HOLD, (agent, *hold, actor))


def lift_hold(database: Database, agent: str) -> Hold | None:
    """Let the ramp move again; what held it."""
    rows = database.execute(_LIFT, (agent,))
    return Hold(*rows[0]) if rows else None


def keep_p_values(database: Database, agent: str, salt: str, p_values: Mapping[str, float]) -> None:
    """Keep the smallest that each test has ever had."""
    for name, p in sorted(p_values.items()):
        database.execute(_LOOK, (agent, salt, name, p))


def take_lease(database: Database, name: str, holder: str, now: float, seconds: float) -> bool:
    """Whether `holder` alone may decide until `now + seconds`, Unix seconds; who has the lease may extend it."""
    return bool(database.execute(_TAKE, (name, holder, now + seconds, now)))


def holder_of(database: Database, name: str) -> tuple[str, float] | None:
    """Who has the lease, and until when, Unix seconds."""
    rows = database.execute("SELECT holder, expires FROM leases WHERE name = ?", (name,))
    return (rows[0][0], rows[0][1]) if rows else None


def give_back(database: Database, name: str, holder: str) -> None:
    """Let another one decide."""
    database.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))


def _decision(row: Answer) -> Decision:
    decision = Decision._make(row)
    reasons, evidence = (orjson.loads(row[place]) for place in (7, 9))
    return decision._replace(reasons=tuple(reasons), evidence=evidence)


_COLUMNS = "id, time, agent, salt, percentage, action, target, reasons, actor, evidence"
_RECORD = f"INSERT INTO decisions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
_HISTORY = f"SELECT {_COLUMNS} FROM decisions {{}} ORDER BY time DESC, id DESC LIMIT ?"
_MOVED = (
    "SELECT max(time) FROM decisions WHERE agent = ? AND salt = ? AND target = ?"
    f" AND action IN ({', '.join('?' * len(MOVES))})"
)
_HOLD = (
    "INSERT INTO holds (agent, kind, reason, time, actor) VALUES (?, ?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET"
    " kind = excluded.kind, reason = excluded.reason, time = excluded.time, actor = excluded.actor"
)
_LIFT = "DELETE FROM holds WHERE agent = ? RETURNING kind, reason, time"
_LOOK = (
    "INSERT INTO looks (agent, salt, name, p) VALUES (?, ?, ?, ?) ON CONFLICT (agent, salt, name) DO UPDATE SET"
    " p = excluded.p WHERE excluded.p < looks.p"
)
_TAKE = (
    "INSERT INTO leases (name, holder, expires) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
    " holder = excluded.holder, expires = excluded.expires"
    " WHERE leases.holder = excluded.holder OR leases.expires <= ? RETURNING name"
)

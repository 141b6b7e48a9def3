"""STAND-IN of branch expstore."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from proxy.experiment.evidence import Hold
from proxy.ledger.database import Database


class Decision(NamedTuple):
    id: str
    time: float
    agent: str
    salt: str
    percentage: float
    action: str
    target: float | None
    reasons: tuple[str, ...]
    actor: str
    evidence: str


def record(database: Database, decision: Decision) -> None:
    database.execute(
        "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*decision[:7], json.dumps(decision.reasons), *decision[8:]),
    )


def history(database: Database, agent: str | None = None, limit: int = 20) -> list[Decision]:
    rows = database.execute(
        "SELECT id, time, agent, salt, percentage, action, target, reasons, actor, evidence FROM decisions"
        " WHERE agent = ? OR ? = '' ORDER BY time DESC, id DESC LIMIT ?",
        (agent or "", agent or "", limit),
    )
    return [Decision(*row[:7], tuple(json.loads(row[7])), *row[8:]) for row in rows]


def put_hold(database: Database, agent: str, hold: Hold, actor: str) -> None:
    database.execute(
        "INSERT INTO holds VALUES (?, ?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET"
        " kind = excluded.kind, reason = excluded.reason, time = excluded.time, actor = excluded.actor",
        (agent, *hold, actor),
    )


def lift_hold(database: Database, agent: str) -> None:
    database.execute("DELETE FROM holds WHERE agent = ?", (agent,))


def keep_p_values(database: Database, agent: str, salt: str, p_values: Mapping[str, float]) -> None:
    for name, p in p_values.items():
        database.execute(
            "INSERT INTO looks VALUES (?, ?, ?, ?) ON CONFLICT (agent, salt, name) DO UPDATE SET p = excluded.p",
            (agent, salt, name, p),
        )


def take_lease(database: Database, name: str, holder: str, now: float, seconds: float) -> str:
    rows = database.execute(
        "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,"
        " expires = excluded.expires WHERE leases.expires <= ? OR leases.holder = excluded.holder RETURNING holder",
        (name, holder, now + seconds, now),
    )
    return str((rows or database.execute("SELECT holder FROM leases WHERE name = ?", (name,)))[0][0])


def give_back(database: Database, name: str, holder: str) -> None:
    database.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))

"""Brakes in the store, where all proxies see them: tripped by any, in force until a person clears them.

A proxy's own brakes hold at once, and before the store has heard of them; `braking.py` is its view.
"""

from typing import Any

from proxy.ledger.database import Database, RowRejected
from proxy.words import Brake

Command = tuple[Any, ...]  # ("trip", brake as a tuple) | ("clear", agent, Unix seconds, actor)


def apply(database: Database, command: Command) -> None:
    """Do what a command says, in a transaction of the caller's.  Raises as `execute` does."""
    match command:
        case ("trip", (_, _, _, _) as brake):
            trip(database, Brake._make(brake))
        case ("clear", agent, time, actor):
            clear(database, agent, time, actor)
        case _:
            raise RowRejected("not a command")


def trip(database: Database, brake: Brake) -> None:
    """Keep a brake; one that is there already stays as it is, cleared or not."""
    database.execute(_TRIP, brake)


def tripped(database: Database) -> dict[str, Brake]:
    """The brakes in force, by agent; where several are, the earliest."""
    found: dict[str, Brake] = {}
    for row in database.execute(_TRIPPED):
        brake = Brake._make(row)
        found.setdefault(brake.agent, brake)
    return found


def clear(database: Database, agent: str, time: float, actor: str) -> int:
    """Take back what was tripped for an agent up to `time`; how many brakes that were.

    What is tripped later stays in force, however late the store hears of the clearing.
    """
    return len(database.execute(_CLEAR, (time, actor, agent, time)))


_TRIP = (
    "INSERT INTO brakes (id, agent, time, evidence, cleared, cleared_by) VALUES (?, ?, ?, ?, NULL, '')"
    " ON CONFLICT (id) DO NOTHING"
)
_TRIPPED = "SELECT id, agent, time, evidence FROM brakes WHERE cleared IS NULL ORDER BY time, id"
_CLEAR = "UPDATE brakes SET cleared = ?, cleared_by = ? WHERE agent = ? AND cleared IS NULL AND time <= ? RETURNING id"

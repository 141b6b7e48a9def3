"""How rollouts stand, as the store has it: what is held, what was decided, how well the split holds.

Written by whoever moves a ramp (`experiment/memory.py`), which may be another process on another machine; read here
for those who watch.
"""

from typing import NamedTuple

from proxy.ledger.database import Database


class Standing(NamedTuple):
    """Of all agents that the store knows."""

    holds: dict[str, str]  # kind, `paused` or `failed`, by agent
    moves: dict[tuple[str, str], int]  # decisions by agent and action
    p_values: dict[tuple[str, str], float]  # the sample ratio's smallest so far, by agent and salt


def standing(database: Database) -> Standing:
    """Three small reads; the decisions are counted in their index.  Raises DatabaseUnavailable."""
    return Standing(
        dict(database.execute("SELECT agent, kind FROM holds")),
        {(agent, action): int(count) for agent, action, count in database.execute(_MOVES)},
        {(agent, salt): float(p) for agent, salt, p in database.execute(_P_VALUES)},
    )


_MOVES = "SELECT agent, action, count(*) FROM decisions GROUP BY agent, action"
_P_VALUES = "SELECT agent, salt, p FROM looks WHERE name = 'srm'"

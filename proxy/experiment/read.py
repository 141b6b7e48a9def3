"""STAND-IN of branch expstore."""

from proxy.experiment.evidence import Evidence, Hold
from proxy.ledger.database import Database
from proxy.words import Brake


def read_evidence(database: Database, agent: str, salt: str, percentage: float, now: float) -> Evidence:
    hold = database.execute("SELECT kind, reason, time FROM holds WHERE agent = ?", (agent,))
    brake = database.execute(
        "SELECT id, agent, time, evidence FROM brakes WHERE agent = ? AND cleared IS NULL", (agent,)
    )
    return Evidence(
        agent,
        salt,
        percentage,
        now,
        (),
        (),
        (0, 0),
        None,
        None,
        None,
        None,
        None,
        Brake(*brake[0]) if brake else None,
        Hold(*hold[0]) if hold else None,
        {},
    )

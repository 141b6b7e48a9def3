"""STAND-IN of branch expstore."""

from proxy.experiment.evidence import BucketSums, Evidence, Hold, Stage
from proxy.ledger.database import Database
from proxy.words import Brake


def read_evidence(database: Database, agent: str, salt: str, percentage: float, now: float) -> Evidence:
    """As far as tests of the report need it."""
    key = (agent, salt)
    hold = database.execute("SELECT kind, reason, time FROM holds WHERE agent = ?", (agent,))
    brake = database.execute(
        "SELECT id, agent, time, evidence FROM brakes WHERE agent = ? AND cleared IS NULL", (agent,)
    )
    stages: dict[float, list[BucketSums]] = {}
    for stage, *values in database.execute(
        "SELECT percentage, bucket, variant, requests, ok, first_ok, fallbacks, slow, capped_latency, capped_cost, rated, score"
        " FROM rollups WHERE agent = ? AND salt = ? ORDER BY percentage",
        key,
    ):
        values[1] = values[1] == "finetuned"
        stages.setdefault(stage, []).append(BucketSums(*values))
    since = database.execute(
        "SELECT min(first_time), max(last_time) FROM stages WHERE agent = ? AND salt = ? AND percentage = ?",
        (*key, percentage),
    )
    newest = database.execute("SELECT max(last_time) FROM stages")
    return Evidence(
        agent,
        salt,
        percentage,
        now,
        tuple(Stage(p, tuple(b)) for p, b in stages.items()),
        (),
        (0, 0),
        since[0][0],
        since[0][1],
        newest[0][0],
        0.0,
        None,
        Brake(*brake[0]) if brake else None,
        Hold(*hold[0]) if hold else None,
        {},
    )

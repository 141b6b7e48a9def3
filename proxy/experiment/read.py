"""STAND-IN of branch expstore."""

from proxy.experiment.evidence import BucketSums, Evidence, Exposed, Hold, Stage
from proxy.ledger.database import Database
from proxy.words import Brake


def read_evidence(database: Database, agent: str, salt: str, percentage: float, now: float) -> Evidence:
    """Stand-in."""
    ask = database.execute
    hold = ask("SELECT kind, reason, time FROM holds WHERE agent = ?", (agent,))
    brake = ask("SELECT id, agent, time, evidence FROM brakes WHERE agent = ? AND cleared IS NULL", (agent,))
    stages: dict[float, list[BucketSums]] = {}
    for row in ask(
        "SELECT percentage, bucket, variant, requests, ok, first_ok, fallbacks, slow, latency, cost, rated, score"
        " FROM rollups WHERE agent = ? AND salt = ? ORDER BY 1, 2",
        (agent, salt),
    ):
        stages.setdefault(row[0], []).append(BucketSums(row[1], row[2] == "finetuned", *row[3:]))
    first = dict.fromkeys(stages, (0, 0))
    users = (0, 0)
    for share, variant, count in ask(
        "SELECT percentage, variant, count(*) FROM exposures WHERE agent = ? AND salt = ? GROUP BY 1, 2", (agent, salt)
    ):
        treated, control = first[share]
        first[share] = (count, control) if variant == "finetuned" else (treated, count)
    users = first.get(percentage, (0, 0))
    ((since, newest),) = ask(
        "SELECT min(time), max(time) FROM requests WHERE agent = ? AND salt = ? AND percentage = ?",
        (agent, salt, percentage),
    )
    earliest = min(first, default=None)
    exposed = tuple(Exposed(share, *count) for share, count in first.items() if share == earliest)
    return Evidence(
        agent,
        salt,
        percentage,
        now,
        tuple(Stage(share, tuple(sums)) for share, sums in stages.items()),
        exposed,
        users,
        since,
        newest,
        newest,
        0.0,
        None,
        Brake(*brake[0]) if brake else None,
        Hold(*hold[0]) if hold else None,
        {},
    )

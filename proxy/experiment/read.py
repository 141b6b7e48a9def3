"""The evidence on one agent's ramp, read from the store in one moment."""

from collections.abc import Iterable

from proxy.experiment.evidence import BucketSums, Evidence, Exposed, Hold, Stage, Thresholds
from proxy.ledger.brakes import tripped
from proxy.ledger.database import Answer, Database


def read_evidence(database: Database, agent: str, salt: str, percentage: float, now: float) -> Evidence:
    """What the store knows of `agent` under `salt`, whose current stage is `percentage`; `now` in Unix seconds.

    Raises DatabaseUnavailable.
    """
    experiment = (agent, salt)
    with database.reading():
        began = {row[0]: row[1:] for row in database.execute(_STAGES, experiment)}
        sums = database.execute(_SUMS, experiment)
        exposed = database.execute(_EXPOSED, (*experiment, *experiment))
        users: dict[str, int] = dict(database.execute(_USERS, (*experiment, percentage)))
        ((newest_of_any,),) = database.execute("SELECT max(last_time) FROM stages")
        since, _, *frozen = began.get(percentage, (None,) * 6)
        missing = None if since is None else _missing(database, agent, since)
        brake = tripped(database).get(agent)
        holds = database.execute("SELECT kind, reason, time FROM holds WHERE agent = ?", (agent,))
        p_values: dict[str, float] = dict(database.execute(_LOOKS, experiment))
    return Evidence(
        agent,
        salt,
        percentage,
        now,
        _stages(sums),
        _exposed(exposed),
        (users.get("finetuned", 0), users.get("baseline", 0)),
        since,
        max((last for _, last, *_ in began.values()), default=None),
        newest_of_any,
        missing,
        None if not frozen or frozen[-1] is None else Thresholds(*frozen),
        brake,
        Hold(*holds[0]) if holds else None,
        p_values,
    )


def _stages(rows: Iterable[Answer]) -> tuple[Stage, ...]:
    found: dict[float, list[BucketSums]] = {}
    for percentage, bucket, variant, *sums in rows:
        found.setdefault(percentage, []).append(BucketSums(bucket, variant == "finetuned", *sums))
    return tuple(Stage(percentage, tuple(buckets)) for percentage, buckets in found.items())


def _exposed(rows: Iterable[Answer]) -> tuple[Exposed, ...]:
    found: dict[float, dict[str, int]] = {}
    for percentage, variant, count in rows:
        found.setdefault(percentage, {})[variant] = count
    return tuple(
        Exposed(percentage, counts.get("finetuned", 0), counts.get("baseline", 0))
        for percentage, counts in found.items()
    )


def _missing(database: Database, agent: str, since: float) -> float | None:
    """The share of the agent's chat requests since then, rounded to the hour, that named no user."""
    counts: dict[str, int] = dict(database.execute(_ASSIGNED, (agent, int(since // 3600))))
    whole = sum(counts.values())
    return float(counts.get("unassigned", 0) / whole) if whole else None


_STAGES = (
    "SELECT percentage, first_time, last_time, tau, latency_cap, cost_cap, frozen FROM stages"
    " WHERE agent = ? AND salt = ?"
)
_SUMS = (
    "SELECT percentage, bucket, variant, requests, ok, first_ok, fallbacks, slow, capped_latency, capped_cost, rated,"
    " score FROM rollups WHERE agent = ? AND salt = ? ORDER BY percentage, bucket"
)
# Whoever has been in an earlier stage was assigned there; only people who are new tell how a stage splits them.
_EXPOSED = (
    "SELECT exposures.percentage, exposures.variant, count(*) FROM exposures JOIN ("
    "SELECT unit, min(time) AS time FROM exposures WHERE agent = ? AND salt = ? GROUP BY unit) AS first"
    " ON first.unit = exposures.unit AND first.time = exposures.time"
    " WHERE exposures.agent = ? AND exposures.salt = ? GROUP BY 1, 2 ORDER BY 1, 2"
)
_USERS = "SELECT variant, count(*) FROM exposures WHERE agent = ? AND salt = ? AND percentage = ? GROUP BY variant"
_ASSIGNED = (
    "SELECT assignment, CAST(sum(requests) AS bigint) FROM hours WHERE agent = ? AND hour >= ?"
    " AND assignment <> 'shadow' GROUP BY assignment"
)
_LOOKS = "SELECT name, p FROM looks WHERE agent = ? AND salt = ?"

"""What is slow, and where a tail is cut: frozen from the baseline when a stage begins.

`tau` is the baseline's 95th percentile of latency when the rollout began, one for all stages of a salt; the caps
are its 99.5th percentiles of latency and cost when the stage began (STATISTICS.md D, E).  What came before the
freezing is added up again, from the requests themselves: when it happens makes no difference to the sums.
"""

from collections.abc import Sequence
from math import ceil

from proxy.ledger import statements
from proxy.ledger.database import Database
from proxy.ledger.retention import id_bound

# Requests of the baseline that the percentiles are taken from, at most, and how many are looked through for them.
SAMPLE = 20_000
LOOK_THROUGH = 200_000
# How many there must be; and how many will do for a stage that is older than a day.
ENOUGH = 1_000
FEW = 100
DAY = 86_400.0


def freeze(database: Database, now: float) -> int:
    """Freeze what can be frozen at Unix time `now`; how many stages that were.  Raises DatabaseUnavailable."""
    frozen = 0
    for agent, salt, percentage, began in database.execute(_WAITING, (now - DAY,)):
        needed = FEW if began < now - DAY else ENOUGH
        since = int((now - 7 * DAY) // 3600)
        ((known,),) = database.execute(_BASELINE, (agent, since))
        if known < needed:
            continue
        sample = database.execute(_SAMPLE, (LOOK_THROUGH, agent, SAMPLE))
        if len(sample) >= needed:
            latencies, costs = zip(*sample, strict=True)
            found = (quantile(latencies, 0.95), quantile(latencies, 0.995), quantile(costs, 0.995))
            frozen += _freeze(database, (agent, salt, percentage), began, found, now)
    return frozen


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that at least `share` of all are not above."""
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


def _freeze(
    database: Database, stage: tuple[str, str, float], began: float, found: tuple[float, float, float], now: float
) -> bool:
    """Whether it was us: another proxy may have been faster."""
    agent, salt, _ = stage
    tau, latency_cap, cost_cap = found
    with database.transaction():
        if database.still:
            database.execute(database.still)  # a batch that is being written has not seen what is frozen now
        earlier = database.execute(_TAU, (agent, salt))
        tau = earlier[0][0] if earlier else tau
        if not database.execute(_FREEZE, (tau, latency_cap, cost_cap, now, *stage)):
            return False
        caps = (tau, latency_cap, latency_cap, cost_cap, cost_cap)
        database.execute(_AGAIN, (*caps, *stage, id_bound(began), *stage))
    return True


# Where everybody is fine-tuned there is nothing to compare.
_WAITING = (
    "SELECT agent, salt, percentage, first_time FROM stages"
    " WHERE frozen IS NULL AND percentage < 100 AND last_time >= ? ORDER BY first_time"
)
_BASELINE = "SELECT coalesce(sum(requests), 0) FROM hours WHERE agent = ? AND assignment = 'baseline' AND hour >= ?"
_SAMPLE = (
    "SELECT latency, cost FROM (SELECT id, agent, route, assignment, latency, cost FROM requests ORDER BY id DESC"
    " LIMIT ?) AS latest WHERE agent = ? AND route = 'chat' AND assignment = 'baseline' ORDER BY id DESC LIMIT ?"
)
_TAU = "SELECT tau FROM stages WHERE agent = ? AND salt = ? AND frozen IS NOT NULL ORDER BY frozen LIMIT 1"
_FREEZE = (
    "UPDATE stages SET tau = ?, latency_cap = ?, cost_cap = ?, frozen = ?"
    " WHERE agent = ? AND salt = ? AND percentage = ? AND frozen IS NULL RETURNING 1"
)
_AGAIN = (
    "UPDATE rollups SET slow = again.slow, capped_latency = again.latency, capped_cost = again.cost"
    f" FROM (SELECT bucket, variant, {statements.slow('?')} AS slow, {statements.capped('latency', '?')} AS latency,"
    f" {statements.capped('cost', '?')} AS cost FROM requests"
    f" WHERE agent = ? AND salt = ? AND percentage = ? AND id >= ? AND {statements.COMPARED} GROUP BY bucket, variant)"
    " AS again WHERE rollups.agent = ? AND rollups.salt = ? AND rollups.percentage = ?"
    " AND rollups.bucket = again.bucket AND rollups.variant = again.variant"
)

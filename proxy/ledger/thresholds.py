"""What is slow, and where a tail is cut: frozen from the baseline when a stage begins.

`tau` is the 95th percentile of the latency of the baseline's answers when the rollout began, one for all stages
of a salt; the caps are their 99.5th percentiles of latency and cost when the stage began (STATISTICS.md D, E).  What
came before the freezing is looked at again, request by request, while nobody writes: when it happens makes no
difference to the sums.
"""

from collections.abc import Sequence
from math import ceil

from proxy.ids import lowest_id
from proxy.ledger.database import Answer, Database

# Answered requests of the baseline that the percentiles are taken from, at most.
SAMPLE = 20_000
# How many there must be; and how many will do for a stage that is older than a day.
ENOUGH = 1_000
FEW = 100
DAY = 86_400.0
# Requests of a stage that can be looked at again while batches wait: a second or two.  One that grew larger than
# that had no baseline for all the time, and compares nothing.
MOST = 1_000_000


def freeze(database: Database, now: float) -> bool:
    """Freeze one stage at Unix time `now`; whether there was one.  Raises DatabaseUnavailable."""
    waiting = database.execute(_WAITING, (now - DAY, now - DAY, MOST))
    if not waiting:
        return False
    sample = database.execute(_SAMPLE, (waiting[0][0], SAMPLE))
    return len(sample) >= FEW and _freeze(database, waiting[0], sample, now)


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that at least `share` of all are not above."""
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


def _freeze(database: Database, waiting: Answer, sample: Sequence[Answer], now: float) -> bool:
    """Whether it was us: another proxy may have been faster."""
    *stage, began = waiting
    agent, salt, _ = stage
    latencies, costs = zip(*sample, strict=True)
    tau, latency_cap, cost_cap = quantile(latencies, 0.95), quantile(latencies, 0.995), quantile(costs, 0.995)
    with database.transaction():
        if database.still:
            database.execute(database.still)  # a batch that is being written has not seen what is frozen now
        earlier = database.execute(_TAU, (agent, salt))
        tau = earlier[0][0] if earlier else tau
        if not database.execute(_FREEZE, (tau, latency_cap, cost_cap, now, *stage)):
            return False
        database.execute(_AGAIN, (*stage, lowest_id(began)))
    return True


# As the index `requests_compared` has them; what failed took no time that an answer would, and cost nothing.
_BASELINE = "agent = {} AND assignment = 'baseline' AND route = 'chat' AND bucket >= 0 AND failure = ''"
# Where everybody is fine-tuned there is nothing to compare.
_WAITING = f"""
SELECT agent, salt, percentage, first_time FROM stages
WHERE frozen IS NULL AND percentage < 100 AND last_time >= ?
AND (SELECT count(*) FROM (SELECT 1 FROM requests WHERE {_BASELINE.format("stages.agent")} LIMIT {ENOUGH}) AS known)
    >= CASE WHEN first_time < ? THEN {FEW} ELSE {ENOUGH} END
AND (SELECT sum(requests) FROM rollups WHERE rollups.agent = stages.agent AND rollups.salt = stages.salt
     AND rollups.percentage = stages.percentage) <= ?
LIMIT 1
"""
_SAMPLE = f"SELECT latency, cost FROM requests WHERE {_BASELINE.format('?')} ORDER BY id DESC LIMIT ?"
_TAU = "SELECT tau FROM stages WHERE agent = ? AND salt = ? AND frozen IS NOT NULL ORDER BY frozen LIMIT 1"
_FREEZE = (
    "UPDATE stages SET tau = ?, latency_cap = ?, cost_cap = ?, frozen = ?"
    " WHERE agent = ? AND salt = ? AND percentage = ? AND frozen IS NULL RETURNING 1"
)
# Until now nothing was slow and nothing was cut: only what is needs to be looked at.
_AGAIN = """
UPDATE rollups SET slow = again.slow, capped_latency = rollups.latency - again.latency,
                   capped_cost = rollups.cost - again.cost
FROM (
    SELECT requests.agent, requests.salt, requests.percentage, requests.bucket, requests.variant,
           sum(CASE WHEN requests.latency > tau THEN 1 ELSE 0 END) AS slow,
           sum(CASE WHEN requests.latency > latency_cap THEN requests.latency - latency_cap ELSE 0 END) AS latency,
           sum(CASE WHEN requests.cost > cost_cap THEN requests.cost - cost_cap ELSE 0 END) AS cost
    FROM stages CROSS JOIN requests
    WHERE stages.agent = ? AND stages.salt = ? AND stages.percentage = ? AND requests.id >= ?
    AND requests.agent = stages.agent AND requests.salt = stages.salt AND requests.percentage = stages.percentage
    AND requests.route = 'chat' AND requests.bucket >= 0 AND requests.assignment IN ('finetuned', 'baseline')
    AND (requests.latency > tau OR requests.latency > latency_cap OR requests.cost > cost_cap)
    GROUP BY requests.agent, requests.salt, requests.percentage, requests.bucket, requests.variant
) AS again
WHERE rollups.agent = again.agent AND rollups.salt = again.salt AND rollups.percentage = again.percentage
AND rollups.bucket = again.bucket AND rollups.variant = again.variant
"""

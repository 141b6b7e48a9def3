"""A batch of rows into the tables: a handful of statements, whatever the batch's size.  Pure.

The rows wait in two temporary tables, which each database fills in its own way.  From there they are
added in the order of the tables' keys: two proxies that add to the same sums never wait for each other
in a circle.
"""

from proxy.ledger.row import ATTEMPT_COLUMNS, COLUMNS
from proxy.words import OF_SHADOW

_NAMES = [name for name, _ in COLUMNS]


def _columns(columns: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns)


CREATE_BATCH = (
    f"CREATE TEMPORARY TABLE batch ({_columns(COLUMNS)})",
    f"CREATE TEMPORARY TABLE batch_attempts ({_columns(ATTEMPT_COLUMNS)})",
)
EMPTY_BATCH = ("DELETE FROM batch", "DELETE FROM batch_attempts")
# No row comes back where the batch was written before.
NAME_BATCH = "INSERT INTO batches (id, time) VALUES (?, ?) ON CONFLICT (id) DO NOTHING RETURNING id"

_REQUESTS = ", ".join(name for name in _NAMES if name not in ("latency_bin", "ttft_bin"))
_ATTEMPTS = ", ".join(name for name, _ in ATTEMPT_COLUMNS)
_COMPARED = "route = 'chat' AND bucket >= 0 AND assignment IN ('finetuned', 'baseline')"
# By hour, each under its assignment: a shadow's is its own.
_COUNTED = "route IN ('chat', 'shadow')"
_OK = "sum(CASE WHEN failure = '' THEN 1 ELSE 0 END)"
_FALLBACKS = "sum(CASE WHEN fallback <> '' THEN 1 ELSE 0 END)"
# A spent budget and a brake take a request from the fine-tune before it can fail.
_RESCUED = "sum(CASE WHEN fallback IN ('', 'budget', 'brake') THEN 0 ELSE 1 END)"
# What `thresholds.py` froze for the batch's stages; null where it has not yet.
_STAGE = (
    " LEFT JOIN stages ON stages.agent = batch.agent AND stages.salt = batch.salt"
    " AND stages.percentage = batch.percentage"
)


def _spread() -> tuple[str, ...]:
    return (
        f"INSERT INTO requests ({_REQUESTS}) SELECT {_REQUESTS} FROM batch WHERE true ON CONFLICT DO NOTHING",
        f"INSERT INTO attempts ({_ATTEMPTS}) SELECT {_ATTEMPTS} FROM batch_attempts WHERE true ON CONFLICT DO NOTHING",
        _added_up(
            "rollups",
            ("agent", "salt", "percentage", "bucket", "variant"),
            {
                "requests": "count(*)",
                "ok": _OK,
                "first_ok": "sum(first_ok)",
                "fallbacks": _RESCUED,
                "cost": "sum(cost)",
                "latency": "sum(latency)",
                "slow": "sum(CASE WHEN latency > tau THEN 1 ELSE 0 END)",
                "capped_latency": "sum(CASE WHEN latency > latency_cap THEN latency_cap ELSE latency END)",
                "capped_cost": "sum(CASE WHEN cost > cost_cap THEN cost_cap ELSE cost END)",
                "rated": "0",
                "score": "0",
                "last_hour": "max(hour)",
            },
            _COMPARED,
            _STAGE,
        ),
        EXPOSURES,
        _added_up(
            "hours",
            ("hour", "agent", "assignment", "variant"),
            {
                "requests": "count(*)",
                "ok": _OK,
                "first_ok": "sum(first_ok)",
                "fallbacks": _FALLBACKS,
                "streams": "sum(CASE WHEN ttft IS NULL THEN 0 ELSE 1 END)",
                "latency": "sum(latency)",
                "ttft": "sum(coalesce(ttft, 0))",
                "input": "sum(input)",
                "output": "sum(output)",
                "cached": "sum(cached)",
                "reasoning": "sum(reasoning)",
                "estimated": "sum(estimated)",
                "cost": "sum(cost)",
                "rated": "0",
                "score": "0",
            },
            _COUNTED,
        ),
        *(
            _counted("reasons", kind, "reason", kind, f"{_COUNTED} AND {kind} <> ''")
            for kind in ("failure", "fallback")
        ),
        _counted("bins", "latency", "bin", "latency_bin", _COUNTED),
        _counted("bins", "ttft", "bin", "ttft_bin", f"{_COUNTED} AND ttft IS NOT NULL"),
        VISITS,
        STAGES,
    )


EXPOSURES = (
    "INSERT INTO exposures (agent, salt, percentage, unit, variant, time)"
    f" SELECT agent, salt, percentage, unit, min(variant), min(time) FROM batch WHERE {_COMPARED} AND unit <> ''"
    " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 ON CONFLICT DO NOTHING"
)
VISITS = (
    "INSERT INTO visits (hour, agent, assignment, variant, unit)"
    " SELECT DISTINCT hour, agent, assignment, variant, unit FROM batch WHERE route = 'chat' AND unit <> ''"
    " ORDER BY 1, 2, 3, 4, 5 ON CONFLICT DO NOTHING"
)
# The last, for `thresholds.py` takes its locks in the same order: the rollups, then their stages.
STAGES = (
    "INSERT INTO stages (agent, salt, percentage, first_time, last_time)"
    f" SELECT agent, salt, percentage, min(time), max(time) FROM batch WHERE {_COMPARED} GROUP BY 1, 2, 3"
    " ORDER BY 1, 2, 3 ON CONFLICT (agent, salt, percentage) DO UPDATE SET"
    " first_time = CASE WHEN excluded.first_time < stages.first_time"
    " THEN excluded.first_time ELSE stages.first_time END,"
    " last_time = CASE WHEN excluded.last_time > stages.last_time THEN excluded.last_time ELSE stages.last_time END"
)
# Takes this process's name.
ADD_SPEND = (
    "INSERT INTO spend (hour, agent, proxy, cost)"
    f" SELECT hour, CASE route WHEN 'shadow' THEN agent || '{OF_SHADOW}' ELSE agent END, ?, sum(cost)"
    " FROM batch WHERE cost > 0 GROUP BY 1, 2 ORDER BY 1, 2"
    " ON CONFLICT (hour, agent, proxy) DO UPDATE SET cost = spend.cost + excluded.cost"
)
# Takes the first hour, and this process's name: what the others spent, and what we did in earlier lives.
OTHERS_SPEND = "SELECT hour, agent, sum(cost) FROM spend WHERE hour >= ? AND proxy <> ? GROUP BY hour, agent"

KEEP_REJECTED = "INSERT INTO rejected (id, time, error, content) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"


def _added_up(table: str, keys: tuple[str, ...], sums: dict[str, str], where: str, joined: str = "") -> str:
    """Sums over groups, added to what is there; `last_…` is not a sum but the latest."""
    names, key = ", ".join((*keys, *sums)), ", ".join(keys)
    group = ", ".join(f"batch.{name}" for name in keys)
    added = ", ".join(
        f"{name} = excluded.{name}" if name.startswith("last_") else f"{name} = {table}.{name} + excluded.{name}"
        for name in sums
    )
    return (
        f"INSERT INTO {table} ({names}) SELECT {group}, {', '.join(sums.values())} FROM batch{joined} WHERE {where}"
        f" GROUP BY {group} ORDER BY {group} ON CONFLICT ({key}) DO UPDATE SET {added}"
    )


def _counted(table: str, kind: str, column: str, source: str, where: str) -> str:
    """Requests by one more property of theirs."""
    keys = "hour, agent, assignment, variant"
    return (
        f"INSERT INTO {table} ({keys}, kind, {column}, requests)"
        f" SELECT {keys}, '{kind}', {source}, count(*) FROM batch WHERE {where}"
        f" GROUP BY {keys}, {source} ORDER BY {keys}, {source}"
        f" ON CONFLICT ({keys}, kind, {column}) DO UPDATE SET requests = {table}.requests + excluded.requests"
    )


# From the batch to the tables, apart from `spend`.
SPREAD_BATCH = _spread()

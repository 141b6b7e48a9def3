"""Feedback in the store: it waits for the request it is about, and is then added to that request's sums.

- Everything is added under what the request was when it was made: its hour, stage, assignment and
  variant.  However late it comes, and whatever has become of the user, it counts where it belongs.
- Each counts once: the id is the table's key, and who marks it as joined is the one that adds it.
- Its request's record may still be on its way, here or in another proxy: it waits for an hour.
"""

from collections.abc import Sequence
from itertools import chain
from random import randrange
from typing import NamedTuple

import orjson

from proxy.ledger.database import Database
from proxy.words import Feedback

# How long a request may be unknown, seconds.
PATIENCE = 3600.0
# How many one call joins, or drops, at most: some milliseconds.
STEP = 1000


class Joined(NamedTuple):
    """What one call did."""

    joined: int
    unknown: int  # dropped: nobody knows their requests


def feedback_row(feedback: Feedback) -> bytes:
    """The row: a JSON array in the order of the fields."""
    return orjson.dumps([*feedback])


def keep(database: Database, rows: Sequence[bytes]) -> None:
    """Add what is new, as waiting.  In a transaction of the caller's; raises as `execute` does."""
    for start in range(0, len(rows), STEP):
        some = [orjson.loads(row) for row in rows[start : start + STEP]]
        values = ", ".join(["(?, ?, ?, ?, ?, ?, 0)"] * len(some))
        database.execute(
            "INSERT INTO feedback (id, request_id, response_id, score, comment, time, joined)"  # noqa: S608 no value
            f" VALUES {values} ON CONFLICT DO NOTHING",
            tuple(chain.from_iterable(some)),
        )


def join(database: Database, now: float) -> Joined:
    """Join what waits and whose request is known; drop what has waited in vain.  `now` in Unix seconds.

    In a transaction of the caller's; at most `STEP` are looked at.  Raises as `execute` does.
    """
    waiting = int(database.execute("SELECT count(*) FROM feedback WHERE joined = 0")[0][0])
    # Where more wait, each call begins elsewhere: a flood of unknown ids is in nobody's way.
    beginning = max(0, randrange(1 - STEP, waiting)) if waiting > STEP else 0
    found = database.execute(_CLAIM, (STEP, beginning)) if waiting else []
    if found:
        # Sums are over requests and scores; a request that was rated twice keeps the later score.
        found.sort(key=lambda row: row[2])
        rated = ", ".join(["(?, ?)"] * len(found))
        scores = tuple(chain.from_iterable(row[:2] for row in found))
        latest = {request: score for request, score, _ in found}
        last = ", ".join(["(?, ?)"] * len(latest))
        database.execute(_SCORE.format(rated=last), tuple(chain.from_iterable(latest.items())))
        for statement in (_ADD_TO_ROLLUPS, _ADD_TO_HOURS):
            database.execute(statement.format(rated=rated), scores)
    dropped = database.execute(_DROP, (now - PATIENCE, STEP)) if waiting else []
    return Joined(len(found), len(dropped))


# An upstream that repeats its ids means its latest answer: our own ids are ordered by time.
_CLAIM = """
WITH waiting AS (
    SELECT id, request_id, response_id FROM feedback WHERE joined = 0 ORDER BY time LIMIT ? OFFSET ?
), found AS (
    SELECT waiting.id AS id, requests.id AS request_id
    FROM waiting JOIN requests ON requests.id = waiting.request_id
    UNION ALL
    SELECT waiting.id, max(requests.id)
    FROM waiting JOIN requests ON requests.response_id = waiting.response_id
    WHERE requests.response_id <> '' GROUP BY waiting.id
)
UPDATE feedback SET joined = 1, request_id = found.request_id
FROM found WHERE feedback.id = found.id AND feedback.joined = 0
RETURNING feedback.request_id, score, time
"""

_SCORE = """
WITH rated (request_id, score) AS (VALUES {rated})
UPDATE requests SET score = rated.score FROM rated WHERE requests.id = rated.request_id
"""

# Added in the order of the keys, as batches are: two proxies never wait for each other in a circle.
_ADD_TO_ROLLUPS = """
WITH rated (request_id, score) AS (VALUES {rated})
INSERT INTO rollups (agent, salt, percentage, bucket, variant, requests, ok, first_ok, fallbacks, cost, latency,
                     rated, score, last_hour)
SELECT agent, salt, percentage, bucket, variant, 0, 0, 0, 0, 0, 0, count(*), sum(rated.score), max(hour)
FROM rated JOIN requests ON requests.id = rated.request_id
WHERE route = 'chat' AND bucket >= 0 AND assignment IN ('finetuned', 'baseline')
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (agent, salt, percentage, bucket, variant)
DO UPDATE SET rated = rollups.rated + excluded.rated, score = rollups.score + excluded.score
"""

_ADD_TO_HOURS = """
WITH rated (request_id, score) AS (VALUES {rated})
INSERT INTO hours (hour, agent, assignment, variant, requests, ok, first_ok, fallbacks, streams, latency, ttft,
                   input, output, cached, reasoning, estimated, cost, rated, score)
SELECT hour, agent, assignment, variant, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, count(*), sum(rated.score)
FROM rated JOIN requests ON requests.id = rated.request_id
WHERE route = 'chat'
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (hour, agent, assignment, variant)
DO UPDATE SET rated = hours.rated + excluded.rated, score = hours.score + excluded.score
"""

# Known ones stay, however old: a later call joins them.
_DROP = """
DELETE FROM feedback WHERE joined = 0 AND id IN (
    SELECT id FROM feedback WHERE joined = 0 AND time < ? ORDER BY time LIMIT ?
)
AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.id = feedback.request_id)
AND NOT EXISTS (
    SELECT 1 FROM requests WHERE requests.response_id = feedback.response_id AND requests.response_id <> ''
)
RETURNING id
"""

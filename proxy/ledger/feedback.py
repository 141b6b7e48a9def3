"""Feedback in the store: it waits for the request it is about, and is then added to that request's sums.

- Everything is added under what the request was when it was made: its hour, stage, assignment and
  variant.  However late it comes, and whatever has become of the user, it counts where it belongs.
- Each counts once: the id is the table's key, and who marks it as joined is the one that adds it.
- Its request's record may still be on its way, here or in another proxy: it waits for an hour.
"""

from collections.abc import Collection, Sequence
from itertools import chain
from random import randrange
from typing import NamedTuple

import orjson

from proxy.ledger.database import Answer, Database, RowRejected
from proxy.words import Feedback

# How long a request may be unknown, seconds.
PATIENCE = 3600.0
# How many one call looks at: some ten milliseconds.
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
        some = [_parsed(row) for row in rows[start : start + STEP]]
        database.execute(_KEEP.format(_rows(len(some), 6)), tuple(chain.from_iterable(some)))


def _parsed(row: bytes) -> list[object]:
    try:
        values: list[object] = orjson.loads(row)
    except orjson.JSONDecodeError as error:
        raise RowRejected(str(error)) from None
    if len(values) != len(Feedback._fields):
        raise RowRejected("not a feedback's row")
    return values


def join(database: Database, now: float) -> Joined:
    """Join what waits and whose request is known; drop what has waited in vain.  `now` in Unix seconds.

    In a transaction of the caller's; at most `STEP` are looked at.  Raises as `execute` does.
    """
    count = int(database.execute(_COUNT)[0][0])
    # Where more wait, each call begins elsewhere: a flood of unknown ids is in nobody's way.
    beginning = max(0, randrange(1 - STEP, count)) if count > STEP else 0
    waiting = database.execute(_WAITING, (STEP, beginning)) if count else []
    named = _named(database, waiting)
    requests = _requests(database, sorted(set(named.values())))
    found = {feedback_id: requests[name] for feedback_id, name in named.items() if name in requests}
    lost = [feedback_id for feedback_id, _, _, time in waiting if feedback_id not in found and time < now - PATIENCE]
    # What another proxy has joined or dropped meanwhile does not come back.
    claimed = database.execute(_CLAIM.format(_marks(found)), tuple(found)) if found else []
    dropped = database.execute(_DROP.format(_marks(lost)), tuple(lost)) if lost else []
    _add(database, [(found[feedback_id], score) for _, score, feedback_id in sorted(claimed)])
    return Joined(len(claimed), len(dropped))


class _Request(NamedTuple):
    """Where a rating belongs."""

    id: str
    route: str
    hour: int
    agent: str
    salt: str
    percentage: float
    bucket: int
    assignment: str
    variant: str


def _named(database: Database, waiting: list[Answer]) -> dict[str, str]:
    """The ids of the requests that they are about, known or not.

    An upstream that repeats its ids means its latest answer: our own are ordered by time.
    """
    responses = sorted({response_id for _, _, response_id, _ in waiting if response_id})
    rows = database.execute(_LATEST.format(_marks(responses)), responses) if responses else []
    latest: dict[str, str] = dict(rows)
    return {feedback_id: name or latest.get(response_id, "") for feedback_id, name, response_id, _ in waiting}


def _requests(database: Database, ids: list[str]) -> dict[str, _Request]:
    """The known ones."""
    rows = database.execute(_REQUESTS.format(_marks(ids)), ids) if ids else []
    return {request.id: request for request in map(_Request._make, rows)}


def _add(database: Database, ratings: list[tuple[_Request, float]]) -> None:
    """Add ratings, in the order of time, to their requests and to the sums those are in."""
    latest = {request.id: score for request, score in ratings}
    if latest:
        database.execute(_SCORE.format(_rows(len(latest), 2)), tuple(chain.from_iterable(latest.items())))
    stages: dict[Answer, tuple[int, float]] = {}
    hours: dict[Answer, tuple[int, float]] = {}
    for request, score in ratings:
        _, route, hour, agent, salt, percentage, bucket, assignment, variant = request
        if route != "chat":
            continue
        _count(hours, (hour, agent, assignment, variant), score)
        if bucket >= 0 and assignment in _COMPARED:
            _count(stages, (agent, salt, percentage, bucket, variant), score)
    for statement, columns, sums in ((_ADD_TO_ROLLUPS, 7, stages), (_ADD_TO_HOURS, 6, hours)):
        if sums:
            # In the order of the keys, as batches are: two proxies never wait for each other in a circle.
            values = [value for key, total in sorted(sums.items()) for value in (*key, *total)]
            database.execute(statement.format(_rows(len(sums), columns)), values)


def _count(sums: dict[Answer, tuple[int, float]], key: Answer, score: float) -> None:
    rated, total = sums.get(key, (0, 0.0))
    sums[key] = rated + 1, total + score


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


def _rows(count: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * count)


_COMPARED = ("finetuned", "baseline")

# Rows are named by their ids in every statement: a database that guesses wrong how many wait, as
# PostgreSQL does in a burst, would join them the long way round.
_KEEP = (
    "WITH given (id, request_id, response_id, score, comment, time) AS (VALUES {})"
    " INSERT INTO feedback (id, request_id, response_id, score, comment, time, joined)"
    " SELECT id, request_id, response_id, score, comment, time, 0 FROM given WHERE true ON CONFLICT DO NOTHING"
)
_COUNT = "SELECT count(*) FROM feedback WHERE joined = 0"
_WAITING = "SELECT id, request_id, response_id, time FROM feedback WHERE joined = 0 ORDER BY time LIMIT ? OFFSET ?"
_LATEST = (
    "SELECT response_id, max(id) FROM requests WHERE response_id IN ({}) AND response_id <> '' GROUP BY response_id"
)
_REQUESTS = (
    "SELECT id, route, hour, agent, salt, percentage, bucket, assignment, variant FROM requests WHERE id IN ({})"
)
_CLAIM = "UPDATE feedback SET joined = 1 WHERE joined = 0 AND id IN ({}) RETURNING time, score, id"
_DROP = "DELETE FROM feedback WHERE joined = 0 AND id IN ({}) RETURNING id"
_SCORE = (
    "WITH rated (request_id, score) AS (VALUES {})"
    " UPDATE requests SET score = rated.score FROM rated WHERE requests.id = rated.request_id"
)
# The sums that are there get more; where there are none, the columns without a value are zero.
_ADD_TO_ROLLUPS = """
WITH added (agent, salt, percentage, bucket, variant, rated, score) AS (VALUES {})
INSERT INTO rollups (agent, salt, percentage, bucket, variant, requests, ok, first_ok, fallbacks, cost, latency, rated,
                     score, last_hour)
SELECT agent, salt, percentage, bucket, variant, 0, 0, 0, 0, 0, 0, rated, score, 0 FROM added WHERE true
ON CONFLICT (agent, salt, percentage, bucket, variant)
DO UPDATE SET rated = rollups.rated + excluded.rated, score = rollups.score + excluded.score
"""
_ADD_TO_HOURS = """
WITH added (hour, agent, assignment, variant, rated, score) AS (VALUES {})
INSERT INTO hours (hour, agent, assignment, variant, requests, ok, first_ok, fallbacks, streams, latency, ttft, input,
                   output, cached, reasoning, estimated, cost, rated, score)
SELECT hour, agent, assignment, variant, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, rated, score FROM added WHERE true
ON CONFLICT (hour, agent, assignment, variant)
DO UPDATE SET rated = hours.rated + excluded.rated, score = hours.score + excluded.score
"""

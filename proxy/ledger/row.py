"""A record as the store's row: a plain tuple in the order of `COLUMNS`, and one for each attempt.  Pure.

What waits for the writer is packed: bytes of known size, a fifth of what the tuples take, and nothing
that the garbage collector would ever look at.
"""

import marshal
from math import log

from proxy.words import Attempt, Failure, Record

# Histogram bins of latencies grow by 5 %, so a quantile read from them is within 2.5 % of the truth.
BIN_GROWTH = 1.05
FIRST_BIN = 0.001  # seconds: the upper bound of bin 0
_LOG_GROWTH = log(BIN_GROWTH)

# What takes a request from the fine-tune before it can fail is none of its failures.
_NOT_THE_MODELS = (None, Failure.BUDGET, Failure.BRAKE)

# Name and SQL type, in order.  Text is empty, never null, where there is nothing to say.
COLUMNS = (
    ("id", "text"),
    ("time", "double precision"),  # Unix seconds
    ("hour", "bigint"),  # Unix hours
    ("agent", "text"),
    ("route", "text"),
    ("unit", "text"),
    ("bucket", "integer"),  # -1: no user was hashed
    ("percentage", "double precision"),
    ("salt", "text"),
    ("policy", "text"),
    ("assignment", "text"),
    ("variant", "text"),
    ("served", "text"),
    ("status", "integer"),
    ("failure", "text"),
    ("fallback", "text"),
    ("first_ok", "integer"),  # 1: the first attempt succeeded, on the assigned model save for a budget or a brake
    ("latency", "double precision"),
    ("latency_bin", "integer"),
    ("ttft", "double precision"),  # null: not a stream
    ("ttft_bin", "integer"),
    ("input", "bigint"),
    ("output", "bigint"),
    ("cached", "bigint"),
    ("reasoning", "bigint"),
    ("estimated", "integer"),
    ("cost", "double precision"),
    ("stream", "integer"),
    ("response_id", "text"),
    ("attempts", "integer"),
)
ATTEMPT_COLUMNS = (
    ("request_id", "text"),
    ("number", "integer"),
    ("upstream", "text"),
    ("model", "text"),
    ("status", "integer"),
    ("failure", "text"),
    ("started", "double precision"),
    ("seconds", "double precision"),
    ("input", "bigint"),
    ("output", "bigint"),
    ("cost", "double precision"),
)


Values = tuple[str | int | float | None, ...]


Row = tuple[Values, tuple[Values, ...]]  # what is kept of a record, and of each of its attempts


def pack(record: Record) -> bytes:
    """The record's row as bytes."""
    return marshal.dumps(row_of(record))


def unpack(packed: bytes) -> Row:
    """The row that was packed, by the same interpreter."""
    row: Row = marshal.loads(packed)  # noqa: S302 our own
    return row


def row_of(record: Record) -> Row:
    """The row; what it holds is text the policy chose, numbers, and ids that were cleaned before."""
    (request_id, time, route, agent, (variant, assignment, bucket), percentage, salt, policy, served, status, failure,
     fallback, attempts, latency, _, ttft, usage, cost, response_id, unit, stream, _, _) = record  # fmt: skip
    prompt, completion, cached, reasoning, estimated = (0, 0, 0, 0, False) if usage is None else usage
    streamed = ttft >= 0
    columns = (
        request_id,
        time,
        int(time // 3600),
        agent,
        route,
        unit,
        bucket,
        percentage,
        salt,
        policy,
        str(assignment),  # a database takes its time with kinds of text of our own
        str(variant),
        served,
        status,
        "" if failure is None else str(failure),
        "" if fallback is None else str(fallback),
        int(failure is None and len(attempts) == 1 and fallback in _NOT_THE_MODELS),
        latency,
        bin_of(latency),
        ttft if streamed else None,
        bin_of(ttft) if streamed else None,
        prompt,
        completion,
        cached,
        reasoning,
        int(estimated),
        cost,
        int(stream),
        response_id,
        len(attempts),
    )
    return (columns, tuple([_tried(request_id, number, attempt) for number, attempt in enumerate(attempts, 1)]))


def _tried(request_id: str, number: int, attempt: Attempt) -> Values:
    upstream, model, status, failure, started, seconds, usage, cost, _ = attempt
    prompt, completion = (0, 0) if usage is None else (usage.prompt, usage.completion)
    failed = "" if failure is None else str(failure)
    return (request_id, number, upstream, model, status, failed, started, seconds, prompt, completion, cost)


def bin_of(seconds: float) -> int:
    """The histogram bin of a duration: bin 0 ends at a millisecond, each further one 5 % later."""
    return 0 if seconds <= FIRST_BIN else int(log(seconds / FIRST_BIN) / _LOG_GROWTH) + 1


def middle_of(number: int) -> float:
    """Seconds in the geometric middle of a bin, whose error is at most 2.5 %."""
    return FIRST_BIN if number == 0 else FIRST_BIN * BIN_GROWTH ** (number - 0.5)

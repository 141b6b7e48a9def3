"""A record as the store's row: one JSON array, in the order of `COLUMNS`, and its attempts.  Pure.

The event loop makes the bytes once; from there on the row is bytes: its size is known, the garbage
collector never looks at it, and a database takes a thousand of them as one parameter, with no Python
in between.
"""

from math import log

import orjson

from proxy.words import Record

# Histogram bins of latencies grow by 5 %, so a quantile read from them is within 2.5 % of the truth.
BIN_GROWTH = 1.05
FIRST_BIN = 0.001  # seconds: the upper bound of bin 0
_LOG_GROWTH = log(BIN_GROWTH)

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
    ("first_ok", "integer"),  # 1: the first attempt, on the assigned model, succeeded
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
# Behind those, a row has an array with one array for each attempt.
ATTEMPT_COLUMNS = (
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


def row_of(record: Record) -> bytes:
    """The row; what it holds is text the policy chose, numbers, and ids that were cleaned before."""
    (request_id, time, route, agent, (variant, assignment, bucket), percentage, salt, policy, served, status, failure,
     fallback, attempts, latency, _, ttft, usage, cost, response_id, unit, stream, _, _) = record  # fmt: skip
    prompt, completion, cached, reasoning, estimated = (0, 0, 0, 0, False) if usage is None else usage
    streamed = ttft >= 0
    return orjson.dumps(
        [
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
            assignment,
            variant,
            served,
            status,
            failure or "",
            fallback or "",
            int(failure is None and len(attempts) == 1 and fallback is None),
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
            [
                [
                    attempt.upstream,
                    attempt.model,
                    attempt.status,
                    attempt.failure or "",
                    attempt.started,
                    attempt.seconds,
                    0 if attempt.usage is None else attempt.usage.prompt,
                    0 if attempt.usage is None else attempt.usage.completion,
                    attempt.cost,
                ]
                for attempt in attempts
            ],
        ]
    )


def bin_of(seconds: float) -> int:
    """The histogram bin of a duration: bin 0 ends at a millisecond, each further one 5 % later."""
    return 0 if seconds <= FIRST_BIN else int(log(seconds / FIRST_BIN) / _LOG_GROWTH) + 1


def middle_of(number: int) -> float:
    """Seconds in the geometric middle of a bin, whose error is at most 2.5 %."""
    return FIRST_BIN if number == 0 else FIRST_BIN * BIN_GROWTH ** (number - 0.5)

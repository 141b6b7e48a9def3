"""A record as the store's row: a plain tuple in the order of `COLUMNS`, and one for each attempt.  Pure.

What waits for the writer is packed, some records at a time: bytes of known size, a fraction of what the tuples
take, and nothing that the garbage collector would ever look at.  What can be derived, the writer derives.
"""

import marshal
from collections.abc import Sequence
from math import log
from typing import Any

from proxy.words import Failure, Record, Usage

# Histogram bins of latencies grow by 5 %, so a quantile read from them is within 2.5 % of the truth.
BIN_GROWTH = 1.05
FIRST_BIN = 0.001  # seconds: the upper bound of bin 0
_LOG_GROWTH = log(BIN_GROWTH)

# What takes a request from the fine-tune before it can fail is none of its failures.
_NOT_THE_MODELS = ("", Failure.BUDGET, Failure.BRAKE)

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

_NOTHING = Usage(0, 0)

Values = tuple[str | int | float | None, ...]


Row = tuple[Values, tuple[Values, ...]]  # what is kept of a record, and of each of its attempts


def pack(records: Sequence[Record]) -> bytes:
    """What is kept of the records, as bytes; what they have in common is in them once."""
    shapes: dict[tuple[object, ...], Values] = {}
    return marshal.dumps([_kept(record, shapes) for record in records])


def unpack(packed: bytes) -> list[Row]:
    """The rows of the records that were packed, by the same interpreter."""
    return [_row(*kept) for kept in marshal.loads(packed)]  # noqa: S302 our own


def _kept(record: Record, shapes: dict[tuple[object, ...], Values]) -> tuple[Any, ...]:
    """All that the event loop does for a row: its numbers and ids, behind what it has in common with others.

    That is one of `shapes`, which marshal writes once.  Numbers are taken apart and made again on their way (mypyc),
    which helps: marshal looks up whatever somebody else holds too, as something that may come twice.
    """
    decision, usage = record.decision, record.usage or _NOTHING
    common: tuple[object, ...] = (
        record.route, record.agent, decision.variant, decision.assignment, record.percentage, record.salt,
        record.policy_hash, record.served, record.status, record.failure, record.fallback, record.stream,
        usage.estimated,
    )  # fmt: skip
    own: Values = ()
    for attempt in record.attempts:
        common += (attempt.upstream, attempt.model, attempt.status, attempt.failure)
        own += (attempt.started, attempt.seconds)
        if len(record.attempts) > 1:  # the tokens and the cost of a single one are the request's
            used = attempt.usage or _NOTHING
            own += (used.prompt, used.completion, attempt.cost)
    shape = shapes.get(common)
    if shape is None:
        shape = shapes[common] = tuple([_plain(value) for value in common])
    return (
        shape, record.request_id, record.time, decision.bucket, record.latency, record.ttft, usage.prompt,
        usage.completion, usage.cached, usage.reasoning, record.cost, record.response_id, record.unit, own,
    )  # fmt: skip


def _plain(value: object) -> str | int | float:
    """A word, a number or nothing in a type that marshal knows."""
    if value is None:
        return ""
    return value if isinstance(value, (bool, int, float)) else str(value)


def _row(
    shape: tuple[Any, ...],
    request_id: str,
    time: float,
    bucket: int,
    latency: float,
    ttft: float,
    prompt: int,
    completion: int,
    cached: int,
    reasoning: int,
    cost: float,
    response_id: str,
    unit: str,
    own: tuple[Any, ...],
) -> Row:
    (route, agent, variant, assignment, percentage, salt, policy, served, status, failure, fallback, stream, estimated,
     *heads) = shape  # fmt: skip
    attempts = len(heads) // 4
    if attempts == 1:
        own = (*own, prompt, completion, cost)
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
        assignment,
        variant,
        served,
        status,
        failure,
        fallback,
        int(not failure and attempts == 1 and fallback in _NOT_THE_MODELS),
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
        attempts,
    )
    tried = [
        (request_id, number + 1, *heads[4 * number : 4 * number + 4], *own[5 * number : 5 * number + 5])
        for number in range(attempts)
    ]
    return (columns, tuple(tried))


def bin_of(seconds: float) -> int:
    """The histogram bin of a duration: bin 0 ends at a millisecond, each further one 5 % later."""
    return 0 if seconds <= FIRST_BIN else int(log(seconds / FIRST_BIN) / _LOG_GROWTH) + 1


def middle_of(number: int) -> float:
    """Seconds in the geometric middle of a bin, whose error is at most 2.5 %."""
    return FIRST_BIN if number == 0 else FIRST_BIN * BIN_GROWTH ** (number - 0.5)

"""A record as the store's row: a plain tuple in the order of `COLUMNS`, and one for each attempt.  Pure.

What waits for the writer is packed, some records at a time: bytes of known size, a fraction of what the tuples
take, and nothing that the garbage collector would ever look at.  What can be derived, the writer derives.
"""

import marshal
import struct
from collections.abc import Callable, Sequence
from math import log
from typing import Any, Final

from proxy.words import Failure, Record, Usage

# Histogram bins of latencies grow by 5 %, so a quantile read from them is within 2.5 % of the truth.
BIN_GROWTH: Final = 1.05
FIRST_BIN: Final = 0.001  # seconds: the upper bound of bin 0
_LOG_GROWTH: Final = log(BIN_GROWTH)

# What takes a request from the fine-tune before it can fail is none of its failures.
_NOT_THE_MODELS: Final[tuple[str, ...]] = ("", Failure.BUDGET, Failure.BRAKE)

# Name and SQL type, in order.  Text is empty, never null, where there is nothing to say.
COLUMNS: Final[tuple[tuple[str, str], ...]] = (
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
ATTEMPT_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
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

_NOTHING: Final = Usage(0, 0)
# So many kinds of records before are looked at for one that is like the next.
_LOOK_BACK: Final = 12
_TWO: Final = struct.Struct("2d").pack
_FIVE: Final = struct.Struct("5d").pack
_EIGHT: Final = struct.Struct("8d").pack
_TEN: Final = struct.Struct("10d").pack

Values = tuple[str | int | float | None, ...]


Row = tuple[Values, tuple[Values, ...]]  # what is kept of a record, and of each of its attempts


class Pack:
    """Records on their way to bytes, in which what they have in common is once."""

    __slots__ = ("_numbers", "_shapes", "_words", "rows")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.rows = 0
        self._shapes: list[Record] = []
        self._numbers: list[bytes] = []
        self._words: list[str] = []

    def close(self) -> bytes:
        """What is kept of the records that were added; the next one begins anew."""
        shapes = [_shape(record) for record in self._shapes]
        packed = marshal.dumps((shapes, b"".join(self._numbers), " ".join(self._words)))
        self._begin()
        return packed

    def add(self, records: Sequence[Record]) -> None:
        """Keep records, one at least."""
        numbers: list[bytes] = []
        words: list[str] = []
        for record in records:
            self._add(record, numbers, words)
        # At once: of the records nothing is held but one of each kind.
        self._numbers.append(b"".join(numbers))
        self._words.append(" ".join(words))
        self.rows += len(records)

    def _add(self, record: Record, numbers: list[bytes], words: list[str]) -> None:
        """All that the event loop does for a row: its numbers and ids, and the place of what it shares.

        None of the words has a space in it; all counts are whole as floats, too.
        """
        shapes = self._shapes
        place = len(shapes) - 1
        until = place - _LOOK_BACK
        while place >= 0 and place > until and not _is_like(record, shapes[place]):
            place -= 1
        if place < 0 or place == until:
            place = len(shapes)
            shapes.append(record)
        usage, attempts = record.usage or _NOTHING, record.attempts
        prompt, completion, bucket = float(usage.prompt), float(usage.completion), float(record.decision.bucket)
        if len(attempts) == 1:  # its tokens and its cost are the request's
            only = attempts[0]
            numbers.append(
                _TEN(
                    float(place), record.time, bucket, record.latency, record.ttft, prompt, completion, record.cost,
                    only.started, only.seconds,
                )
            )  # fmt: skip
        else:
            numbers.append(
                _EIGHT(float(place), record.time, bucket, record.latency, record.ttft, prompt, completion, record.cost)
            )
            for attempt in attempts:
                used = attempt.usage or _NOTHING
                numbers.append(
                    _FIVE(attempt.started, attempt.seconds, float(used.prompt), float(used.completion), attempt.cost)
                )
        if _is_detailed(usage):
            numbers.append(_TWO(float(usage.cached), float(usage.reasoning)))
        words.append(record.request_id)
        words.append(record.response_id)
        words.append(record.unit)


def unpack(packed: bytes) -> list[Row]:
    """The rows of the records that were packed, by the same interpreter."""
    shapes, numbers, joined = marshal.loads(packed)  # noqa: S302 our own
    number = iter(struct.unpack(f"{len(numbers) // 8}d", numbers)).__next__
    words = joined.split(" ")
    return [_row(shapes[int(number())], number, *words[at : at + 3]) for at in range(0, len(words) - 2, 3)]


def _is_like(one: Record, other: Record) -> bool:
    """Whether all is the same in both that `_shape` tells; what only looks the same costs some bytes."""
    if (
        one.agent is not other.agent
        or one.served is not other.served
        or one.decision.variant is not other.decision.variant
    ):
        return False
    tried, others = one.attempts, other.attempts
    used, like = one.usage or _NOTHING, other.usage or _NOTHING
    if (
        one.status != other.status or one.failure is not other.failure or one.fallback is not other.fallback
        or one.policy_hash is not other.policy_hash or one.decision.assignment is not other.decision.assignment
        or one.stream is not other.stream or one.route is not other.route or one.salt is not other.salt
        or one.percentage != other.percentage or len(tried) != len(others)
        or used.estimated is not like.estimated or _is_detailed(used) is not _is_detailed(like)
    ):  # fmt: skip
        return False
    for number, attempt in enumerate(tried):
        again = others[number]
        if (
            attempt.upstream is not again.upstream or attempt.model is not again.model
            or attempt.status != again.status or attempt.failure is not again.failure
        ):  # fmt: skip
            return False
    return True


def _shape(record: Record) -> Values:
    """What many records have in common."""
    decision, usage = record.decision, record.usage or _NOTHING
    return tuple(
        [
            _plain(value)
            for value in (
                record.route, record.agent, decision.variant, decision.assignment, record.percentage, record.salt,
                record.policy_hash, record.served, record.status, record.failure, record.fallback, record.stream,
                usage.estimated, _is_detailed(usage),
            )
        ]
        + [
            _plain(value)
            for attempt in record.attempts
            for value in (attempt.upstream, attempt.model, attempt.status, attempt.failure)
        ]
    )  # fmt: skip


def _is_detailed(usage: Usage) -> bool:
    return usage.cached != 0 or usage.reasoning != 0


def _plain(value: object) -> str | int | float:
    """A word, a number or nothing in a type that marshal knows."""
    if value is None:
        return ""
    return value if isinstance(value, (bool, int, float)) else str(value)


def _row(shape: Sequence[Any], number: Callable[[], float], request_id: str, response_id: str, unit: str) -> Row:
    (route, agent, variant, assignment, percentage, salt, policy, served, status, failure, fallback, stream, estimated,
     detailed, *heads) = shape  # fmt: skip
    attempts = len(heads) // 4
    time, bucket, latency, ttft = number(), int(number()), number(), number()
    prompt, completion, cost = int(number()), int(number()), number()
    own: list[tuple[float, ...]] = [(number(), number(), prompt, completion, cost)] if attempts == 1 else []
    while len(own) < attempts:
        own.append((number(), number(), int(number()), int(number()), number()))
    cached, reasoning = (int(number()), int(number())) if detailed else (0, 0)
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
    tried = [(request_id, place + 1, *heads[4 * place : 4 * place + 4], *own[place]) for place in range(attempts)]
    return (columns, tuple(tried))


def bin_of(seconds: float) -> int:
    """The histogram bin of a duration: bin 0 ends at a millisecond, each further one 5 % later."""
    return 0 if seconds <= FIRST_BIN else int(log(seconds / FIRST_BIN) / _LOG_GROWTH) + 1


def middle_of(number: int) -> float:
    """Seconds in the geometric middle of a bin, whose error is at most 2.5 %."""
    return FIRST_BIN if number == 0 else FIRST_BIN * BIN_GROWTH ** (number - 0.5)

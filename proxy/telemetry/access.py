"""The access log: a JSON line for each request that is to have one, among the log's others.

A line says who was assigned what, what answered, how, and at what price.  Of the request it holds
nothing that a person wrote: no user, prompt, completion, header or path.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import orjson
from prometheus_client.core import CounterMetricFamily, Metric

from proxy.telemetry.lines import Channel, LineWriter
from proxy.telemetry.log import utc
from proxy.words import Attempt, Record, Usage

# Bytes of lines that may wait for a reader of standard error: a third of a second of them at full load.
ACCESS_AHEAD: Final = 4 * 1024 * 1024
LOGGER: Final = "splitlane.access"

# Lines are made this many at a time, or after so many seconds: of one request in a hundred a line made by itself
# takes ten times as long, because by then every cache has forgotten how.
AT_ONCE: Final = 32
WITHIN: Final = 0.5

# A share is a text that the drawn ids' last eight digits come before.
_ALL: Final = "g"  # behind every hexadecimal digit


class AccessLog:
    """Takes records; owns what became of their lines."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._lines = Channel(ACCESS_AHEAD, patient=True)
        self._chosen: list[Record] = []  # whose lines are to be made
        self._due = 0.0  # when they are
        self._below = ""
        self._most = 0

    def follow(self, share: float) -> bool:
        """Write of that share of requests from now on, 0 … 1; whether that is anything at all."""
        self._below = _ALL if share >= 1 else f"{int(share * (1 << 32)):08x}"
        self._most = ord(self._below[0])  # of all that are below, the first digit: a number is soon compared
        return share > 0

    def take(self, records: Sequence[Record]) -> None:
        """Choose those records that are to have a line."""
        self._chosen += [record for record in records if self.wants(record)]
        if len(self._chosen) >= AT_ONCE:
            self.write()

    def look(self, now: float) -> None:
        """Write the lines of records that have waited for company long enough; called now and then, at `now`."""
        if not self._chosen:
            self._due = now + WITHIN
        elif now >= self._due:
            self.write()

    def write(self) -> None:
        """Have the chosen records' lines written."""
        chosen, self._chosen = self._chosen, []
        if chosen:
            self._writer.put(self._lines, *map(line_of, chosen))

    def wants(self, record: Record) -> bool:
        """Whether the request failed, was rescued, or is drawn."""
        if record.failure is not None or record.fallback is not None:
            return True
        # An id's last 32 bits are random: whoever asks again gets the same answer.
        drawn = record.request_id
        return ord(drawn[-8]) <= self._most and drawn[-8:] < self._below

    def collect(self) -> Iterator[Metric]:
        """What became of the lines."""
        yield CounterMetricFamily("splitlane_access_log_written", "Access log lines.", value=self._lines.written)
        yield CounterMetricFamily(
            "splitlane_access_log_dropped",
            "Access log lines that nobody took from standard error in time.",
            value=self._lines.dropped,
        )


def line_of(record: Record) -> bytes:
    """The line, with its newline.  Durations are seconds, costs US dollars, null is what there was none of."""
    decision, ttft, trace = record.decision, record.ttft, record.trace
    return orjson.dumps(
        {
            "time": utc(record.time + record.latency),
            "level": "info",
            "logger": LOGGER,
            "message": "request",
            "request_id": record.request_id,
            "route": record.route,
            "agent": record.agent,
            "assignment": decision.assignment,
            "variant": decision.variant,
            "bucket": decision.bucket if decision.bucket >= 0 else None,
            "served": record.served or None,
            "status": record.status,
            "outcome": record.failure or "success",
            "fallback": record.fallback,
            "attempts": [_attempt(attempt) for attempt in record.attempts],
            "ttft": _micro(ttft) if ttft >= 0 else None,
            "latency": _micro(record.latency),
            "overhead": _micro(record.latency - record.blocked),
            "tokens": _tokens(record.usage),
            "cost": record.cost,
            "stream": record.stream,
            "adapted": record.adapted,
            "response_id": record.response_id or None,
            "trace_id": trace.trace_id if trace is not None else None,
            "policy": record.policy_hash,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _attempt(attempt: Attempt) -> dict[str, object]:
    return {
        "upstream": attempt.upstream,
        "model": attempt.model or None,
        "status": attempt.status or None,
        "reason": attempt.failure,
        "started": _micro(attempt.started),
        "seconds": _micro(attempt.seconds),
        "tokens": _tokens(attempt.usage),
        "cost": attempt.cost,
    }


def _micro(seconds: float) -> float:
    """Without the digits below a microsecond; `round` takes four times as long."""
    return int(seconds * 1e6) / 1e6


def _tokens(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    return {
        "input": usage.prompt,
        "output": usage.completion,
        "cached": usage.cached,
        "reasoning": usage.reasoning,
        "estimated": usage.estimated,
    }

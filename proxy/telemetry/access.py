"""The access log: a JSON line for each request that is to have one, among the log's others.

A line says who was assigned what, what answered, how, and at what price.  Of the request it holds
nothing that a person wrote: no user, prompt, completion, header or path.
"""

from collections.abc import Iterator, Sequence

import orjson
from prometheus_client.core import CounterMetricFamily, Metric

from proxy.telemetry.lines import Channel, LineWriter
from proxy.telemetry.log import utc
from proxy.words import Attempt, Record, Usage

# Bytes of lines that may wait for a reader of standard error: a third of a second of them at full load.
ACCESS_AHEAD = 4 * 1024 * 1024
LOGGER = "splitlane.access"

# A share is a text that the drawn ids' last eight digits come before.
_ALL = "g"  # behind every hexadecimal digit


class AccessLog:
    """Takes records; owns what became of their lines."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._lines = Channel(ACCESS_AHEAD, patient=True)
        self._below = ""

    def follow(self, share: float) -> bool:
        """Write of that share of requests from now on, 0 … 1; whether that is anything at all."""
        self._below = _ALL if share >= 1 else f"{int(share * (1 << 32)):08x}"
        return share > 0

    def take(self, records: Sequence[Record]) -> None:
        """Write the lines of those records that are to have one."""
        lines = [line_of(record) for record in records if self.wants(record)]
        if lines:
            self._writer.put(self._lines, *lines)

    def wants(self, record: Record) -> bool:
        """Whether the request failed, was rescued, or is drawn."""
        if record.failure is not None or record.fallback is not None:
            return True
        # An id's last 32 bits are random: whoever asks again gets the same answer.
        return record.request_id[-8:] < self._below

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
    (request_id, time, route, agent, (variant, assignment, bucket), _, _, policy, served, status, failure, fallback,
     attempts, latency, blocked, ttft, usage, cost, response_id, _, stream, adapted,
     trace) = record  # fmt: skip
    return orjson.dumps(
        {
            "time": utc(time + latency),
            "level": "info",
            "logger": LOGGER,
            "message": "request",
            "request_id": request_id,
            "route": route,
            "agent": agent,
            "assignment": assignment,
            "variant": variant,
            "bucket": bucket if bucket >= 0 else None,
            "served": served or None,
            "status": status,
            "outcome": failure or "success",
            "fallback": fallback,
            "attempts": [_attempt(attempt) for attempt in attempts],
            "ttft": _micro(ttft) if ttft >= 0 else None,
            "latency": _micro(latency),
            "overhead": _micro(latency - blocked),
            "tokens": _tokens(usage),
            "cost": cost,
            "stream": stream,
            "adapted": adapted,
            "response_id": response_id or None,
            "trace_id": trace.trace_id if trace is not None else None,
            "policy": policy,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _attempt(attempt: Attempt) -> dict[str, object]:
    upstream, model, status, failure, started, seconds, usage, cost, _ = attempt
    return {
        "upstream": upstream,
        "model": model or None,
        "status": status or None,
        "reason": failure,
        "started": _micro(started),
        "seconds": _micro(seconds),
        "tokens": _tokens(usage),
        "cost": cost,
    }


def _micro(seconds: float) -> float:
    """Without the digits below a microsecond; `round` takes four times as long."""
    return int(seconds * 1e6) / 1e6


def _tokens(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    prompt, completion, cached, reasoning, estimated = usage
    return {
        "input": prompt,
        "output": completion,
        "cached": cached,
        "reasoning": reasoning,
        "estimated": estimated,
    }

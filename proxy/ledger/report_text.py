"""A report as text for a terminal, as Markdown, and as plain data.  Pure.

One table per agent: a line per metric, a column per group, and what fine-tuned minus baseline is.
That is a difference, not a verdict: how sure one may be of it is not said here.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import floor, log10
from typing import Any, NamedTuple

from proxy.ledger.report import HOUR, AgentReport, Group, Report, Window, quantile
from proxy.words import Assignment

NOTES = (
    "success: intention to treat, of the assigned variant, whoever answered. It is the one that decides.",
    "first attempt: the assigned model by itself, before any retry or rescue.",
    "difference: fine-tuned minus baseline. Whether it is more than chance is not said here.",
    "shadow: copies of baseline requests to the fine-tune. Nobody got the answers; not compared.",
    "Latencies and ttft: within 2.5 %. Users: who changed variant in the window is in both.",
)
_TITLES = {Assignment.FINETUNED: "fine-tuned", Assignment.BASELINE: "baseline"}
_NO_VALUE = "–"


class Line(NamedTuple):
    """One metric."""

    title: str
    value: Callable[[Group], float | None]
    show: Callable[[float], str]
    difference: Callable[[float], str] | None = None  # None: arms of different sizes have none that says anything


def lines_of(report: Report) -> Iterator[str]:
    """The report as text."""
    yield _span(report.window)
    if not report.agents:
        yield "no requests"
        return
    for agent in report.agents:
        head, *rows = _table(agent)
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        yield ""
        for row in ([agent.agent, *head[1:]], *rows):
            cells = [row[0].ljust(max(widths[0], len(agent.agent)))]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            yield "  ".join(cells).rstrip()
    yield ""
    yield from NOTES


def markdown_of(report: Report) -> Iterator[str]:
    """The report as Markdown."""
    yield "# Splitlane report"
    yield ""
    yield _span(report.window)
    if not report.agents:
        yield ""
        yield "No requests."
        return
    for agent in report.agents:
        head, *rows = _table(agent)
        yield ""
        yield f"## {agent.agent}"
        yield ""
        yield f"| {' | '.join(head)} |"
        yield f"|---|{'---:|' * (len(head) - 1)}"
        for row in rows:
            yield f"| {' | '.join(row)} |"
    yield ""
    for note in NOTES:
        yield f"- {note}"


def json_of(report: Report) -> dict[str, Any]:
    """The report as plain data: seconds, US dollars, shares of 0 … 1; null where there is nothing to divide by."""
    return {
        "since": _moment(report.window.since).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "until": _moment(report.window.until).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "agents": [
            {"agent": agent.agent, "groups": [_data(group) for group in agent.groups]} for agent in report.agents
        ],
    }


def _data(group: Group) -> dict[str, Any]:
    return {
        "assignment": group.assignment,
        "variant": group.variant,
        "compared": group.assignment in _TITLES,
        "users": group.users,
        "requests": group.requests,
        "ok": group.ok,
        "success": group.success,
        "first_ok": group.first_ok,
        "first_attempt": group.first_attempt,
        "latency_seconds": {name: quantile(group.latencies, share) for name, share in _LATENCY.items()},
        "streams": group.streams,
        "ttft_seconds": {name: quantile(group.ttfts, share) for name, share in _TTFT.items()},
        "cost_usd": group.cost,
        "cost_usd_per_request": group.cost_per_request,
        "tokens": {
            "input": group.input,
            "output": group.output,
            "cached": group.cached,
            "reasoning": group.reasoning,
            "estimated_share": group.estimated_share,
        },
        "fallbacks": dict(group.fallbacks),
        "failures": dict(group.failures),
        "feedback": {"rated": group.rated, "mean": group.rating},
    }


def _table(agent: AgentReport) -> list[list[str]]:
    """Cells, the head first."""
    finetuned, baseline = agent.group(Assignment.FINETUNED), agent.group(Assignment.BASELINE)
    arms = [group for group in (finetuned, baseline) if group is not None]
    others = [group for group in agent.groups if group not in arms]
    compared = len(arms) == 2
    difference = ["difference"] if compared else []
    rows = [["", *map(_title, arms), *difference, *map(_title, others)]]
    for line in _lines(agent):
        values = [line.value(group) for group in arms]
        if compared:
            difference = [_difference(line, *values)]
        rows.append(
            [
                line.title,
                *(_shown(line, value) for value in values),
                *difference,
                *(_shown(line, line.value(group)) for group in others),
            ]
        )
    return rows


def _title(group: Group) -> str:
    return _TITLES.get(Assignment(group.assignment)) or f"{group.assignment}: {group.variant}"


def _shown(line: Line, value: float | None) -> str:
    return _NO_VALUE if value is None else line.show(value)


def _difference(line: Line, finetuned: float | None, baseline: float | None) -> str:
    if line.difference is None:
        return ""
    if finetuned is None or baseline is None:
        return _NO_VALUE
    difference = finetuned - baseline
    return f"{'-' if difference < 0 else '+'}{line.difference(abs(difference))}"


# --- values -----------------------------------------------------------------------------------------


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value * 100:.2f} %"


def _points(value: float) -> str:
    return f"{value * 100:.2f} pp"


def _seconds(value: float) -> str:
    return f"{_digits(value)} s" if value >= 1 else f"{_digits(value * 1000)} ms"


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or not value else f"${_digits(value)}"


def _score(value: float) -> str:
    return f"{value:.3f}"


def _digits(value: float) -> str:
    """Three digits that say something, without an exponent."""
    places = 2 - floor(log10(value)) if value > 0 else 0
    return f"{value:.{max(places, 0)}f}"


def _span(window: Window) -> str:
    since, until = (f"{_moment(hour):%Y-%m-%d %H:%M}" for hour in window)
    hours = window.until - window.since
    return f"{since} – {until} UTC, {hours} hour{'s' if hours != 1 else ''}"


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * HOUR, UTC)


# --- lines ------------------------------------------------------------------------------------------

_LATENCY = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_TTFT = {"p50": 0.5, "p95": 0.95}


def _at(bins: str, share: float) -> Callable[[Group], float | None]:
    return lambda group: quantile(getattr(group, bins), share)


_BEFORE = (
    Line("users", lambda group: group.users, _whole),
    Line("requests", lambda group: group.requests, _whole),
    Line("success", lambda group: group.success, _share, _points),
    Line("first attempt", lambda group: group.first_attempt, _share, _points),
    *(Line(f"latency {name}", _at("latencies", share), _seconds, _seconds) for name, share in _LATENCY.items()),
    *(Line(f"ttft {name}", _at("ttfts", share), _seconds, _seconds) for name, share in _TTFT.items()),
    Line("cost per request", lambda group: group.cost_per_request, _dollars, _dollars),
    Line("cost", lambda group: group.cost, _dollars),
    Line("tokens in", lambda group: group.input, _whole),
    Line("tokens out", lambda group: group.output, _whole),
    Line("tokens estimated", lambda group: group.estimated_share, _share),
)
_AFTER = (
    Line("rated", lambda group: group.rated, _whole),
    Line("mean rating", lambda group: group.rating, _score, _score),
)


def _lines(agent: AgentReport) -> Iterator[Line]:
    """All metrics; fallbacks and failures by the reasons that there are."""
    yield from _BEFORE
    for title, counts in (("fallback", "fallbacks"), ("failed", "failures")):
        reasons = sorted({reason for group in agent.groups for reason in getattr(group, counts)})
        for reason in reasons:
            yield Line(f"{title}: {reason}", _count(counts, reason), _whole)
    yield from _AFTER


def _count(counts: str, reason: str) -> Callable[[Group], float]:
    return lambda group: getattr(group, counts).get(reason, 0)

"""A report as text for a terminal, as Markdown, and as plain data.  Pure.

One table per agent: a line per metric, a column per group, and what fine-tuned minus baseline is.
That is a difference, not a verdict: how sure one may be of it is not said here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from proxy.ledger import page
from proxy.ledger.figures import NOTHING, dollars, points, score, seconds, share, signed, span_of, timestamp, whole
from proxy.ledger.page import Block, Heading, Notes, Paragraph, Table
from proxy.ledger.report import HOUR, AgentReport, Group, Report, quantile
from proxy.words import Assignment

NOTES = (
    "success: intention to treat, of the assigned variant, whoever answered. It is the one that decides.",
    "first attempt: the assigned model by itself, before any retry or rescue.",
    "difference: fine-tuned minus baseline. Whether it is more than chance is not said here.",
    "shadow: copies of baseline requests to the fine-tune. Nobody got the answers; not compared.",
    "Latencies and ttft: within 2.5 %. Users: who changed variant in the window is in both.",
)
_TITLES = {Assignment.FINETUNED: "fine-tuned", Assignment.BASELINE: "baseline"}


class Line(NamedTuple):
    """One metric."""

    title: str
    value: Callable[[Group], float | None]
    show: Callable[[float], str]
    difference: Callable[[float], str] | None = None  # None: arms of different sizes have none that says anything


def lines_of(report: Report) -> Iterator[str]:
    """The report as text."""
    if not report.agents:
        return iter((span_of(report.window), "no requests"))
    return page.text_of((Paragraph(span_of(report.window)), *figures_of(report.agents), Notes(NOTES)))


def markdown_of(report: Report) -> Iterator[str]:
    """The report as Markdown."""
    blocks: list[Block] = [Heading(1, "Splitlane report"), Paragraph(span_of(report.window))]
    for agent in report.agents:
        blocks += [Heading(2, agent.agent), table_of(agent)]
    return page.markdown_of((*blocks, Notes(NOTES) if report.agents else Paragraph("No requests.")))


def json_of(report: Report) -> dict[str, Any]:
    """The report as plain data: seconds, US dollars, shares of 0 … 1; null where there is nothing to divide by."""
    return {
        "since": timestamp(report.window.since * HOUR),
        "until": timestamp(report.window.until * HOUR),
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
        "latency_seconds": {name: quantile(group.latencies, part) for name, part in _LATENCY.items()},
        "streams": group.streams,
        "ttft_seconds": {name: quantile(group.ttfts, part) for name, part in _TTFT.items()},
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


def figures_of(agents: Iterable[AgentReport]) -> Iterator[Table]:
    """Each agent's table, with its name in it."""
    for agent in agents:
        head, rows, _ = table_of(agent)
        yield Table([agent.agent, *head[1:]], rows)


def table_of(agent: AgentReport) -> Table:
    """A line per metric, a column per group."""
    finetuned, baseline = agent.group(Assignment.FINETUNED), agent.group(Assignment.BASELINE)
    arms = [group for group in (finetuned, baseline) if group is not None]
    others = [group for group in agent.groups if group not in arms]
    compared = len(arms) == 2
    difference = ["difference"] if compared else []
    head = ["", *map(_title, arms), *difference, *map(_title, others)]
    rows = []
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
    return Table(head, rows)


def _title(group: Group) -> str:
    return _TITLES.get(Assignment(group.assignment)) or f"{group.assignment}: {group.variant}"


def _shown(line: Line, value: float | None) -> str:
    return NOTHING if value is None else line.show(value)


def _difference(line: Line, finetuned: float | None, baseline: float | None) -> str:
    if line.difference is None:
        return ""
    if finetuned is None or baseline is None:
        return NOTHING
    return signed(finetuned - baseline, line.difference(abs(finetuned - baseline)))


# --- lines ------------------------------------------------------------------------------------------

_LATENCY = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_TTFT = {"p50": 0.5, "p95": 0.95}


def _at(bins: str, part: float) -> Callable[[Group], float | None]:
    return lambda group: quantile(getattr(group, bins), part)


_BEFORE = (
    Line("users", lambda group: group.users, whole),
    Line("requests", lambda group: group.requests, whole),
    Line("success", lambda group: group.success, share, points),
    Line("first attempt", lambda group: group.first_attempt, share, points),
    *(Line(f"latency {name}", _at("latencies", part), seconds, seconds) for name, part in _LATENCY.items()),
    *(Line(f"ttft {name}", _at("ttfts", part), seconds, seconds) for name, part in _TTFT.items()),
    Line("cost per request", lambda group: group.cost_per_request, dollars, dollars),
    Line("cost", lambda group: group.cost, dollars),
    Line("tokens in", lambda group: group.input, whole),
    Line("tokens out", lambda group: group.output, whole),
    Line("tokens estimated", lambda group: group.estimated_share, share),
)
_AFTER = (
    Line("rated", lambda group: group.rated, whole),
    Line("mean rating", lambda group: group.rating, score, score),
)


def _lines(agent: AgentReport) -> Iterator[Line]:
    """All metrics; fallbacks and failures by the reasons that there are."""
    yield from _BEFORE
    for title, counts in (("fallback", "fallbacks"), ("failed", "failures")):
        reasons = sorted({reason for group in agent.groups for reason in getattr(group, counts)})
        for reason in reasons:
            yield Line(f"{title}: {reason}", _count(counts, reason), whole)
    yield from _AFTER


def _count(counts: str, reason: str) -> Callable[[Group], float]:
    return lambda group: getattr(group, counts).get(reason, 0)

"""The A/A picture for people and for programs."""

from collections.abc import Iterator
from typing import Any

from proxy.experiment.false_alarms import FalseAlarms
from proxy.experiment.verdict import GateVerdict

_NUMBERS = ("outcome", "finetuned", "baseline", "estimate", "lower", "upper", "margin")


def lines_of(found: FalseAlarms) -> Iterator[str]:
    """Four lines and a table: a line per gate."""
    yield (
        f"observed at 0 %: {found.requests:,} requests in {found.buckets:,} buckets of users;"
        f" {found.relabelings} random splits into {found.percentage:g} % and {100 - found.percentage:g} %"
    )
    yield _frozen(found)
    yield f"false alarms: {_share(found.rolled_back, found)} of the splits would have been rolled back"
    yield f"as good as it gets: {_share(found.passed, found)} would have passed all gates by now"
    rows = [["gate", "fails", "passes", "holds", "for want of data", "the split to come"]]
    for picture, coming in zip(found.gates, found.coming, strict=True):
        counts = (picture.fails, picture.passes, picture.holds, picture.short)
        rows.append([picture.gate, *(_share(count, found) for count in counts), _coming(coming)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *numbers, last in rows:
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))
        yield "  ".join((name.ljust(widths[0]), *cells, last)).rstrip()


def json_of(found: FalseAlarms) -> dict[str, Any]:
    """The same; shares are 0 … 1, times seconds, costs US dollars."""
    return {
        "percentage": found.percentage,
        "relabelings": found.relabelings,
        "buckets": found.buckets,
        "requests": found.requests,
        "rolled_back": found.rolled_back / found.relabelings,
        "passed": found.passed / found.relabelings,
        "thresholds": None if found.thresholds is None else found.thresholds._asdict(),
        "gates": [
            {
                "gate": picture.gate,
                "kind": picture.kind,
                "fails": picture.fails / found.relabelings,
                "passes": picture.passes / found.relabelings,
                "holds": picture.holds / found.relabelings,
                "insufficient": picture.short / found.relabelings,
                "coming": _plain(coming),
            }
            for picture, coming in zip(found.gates, found.coming, strict=True)
        ],
    }


def _plain(gate: GateVerdict) -> dict[str, Any]:
    return {name: getattr(gate, name) for name in _NUMBERS}


def _frozen(found: FalseAlarms) -> str:
    frozen = found.thresholds
    if frozen is None:
        return "nothing is frozen yet: the baseline has too few requests"
    return (
        f"frozen from the baseline: slow is above {frozen.tau:.3f} s (its p95); tails count up to"
        f" {frozen.latency_cap:.3f} s and ${frozen.cost_cap:.6f} (its p99.5)"
    )


def _share(count: int, found: FalseAlarms) -> str:
    return f"{100 * count / found.relabelings:.1f} %"


def _coming(gate: GateVerdict) -> str:
    if gate.estimate is None:
        return f"{gate.outcome}: {gate.because.detail}" if gate.because else str(gate.outcome)
    lower, upper = (_amount(gate, value) for value in (gate.lower, gate.upper))
    return f"{gate.outcome}: {_amount(gate, gate.estimate)} ({lower} … {upper}), allowed {_amount(gate, gate.margin)}"


def _amount(gate: GateVerdict, value: float | None) -> str:
    if value is None:
        return "anything"
    return f"{value:+.3f}" if gate.scale == "score" else f"{100 * value:+.2f} {'pp' if gate.scale == 'points' else '%'}"

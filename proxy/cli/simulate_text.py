"""What `splitlane simulate` prints: lines for people, one object for programs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from proxy.experiment.simulate.assumptions import Effect, Traffic

if TYPE_CHECKING:  # NumPy is an extra
    from proxy.experiment.simulate.summary import Share, Spread, Summary
    from proxy.experiment.simulate.trials import Simulation


def lines_of(simulation: "Simulation", effects: Mapping[str, Effect], found: Mapping[str, "Summary"]) -> Iterator[str]:
    """Two lines of what was assumed, a line per fact with a column per fine-tune, and how to read them."""
    percentages = [step.percent for step in simulation.rollout.plan]
    course = simulation.course
    ramp = " → ".join(f"{percentage:g}" for percentage in percentages)
    ramps = next(iter(found.values())).ramps
    yield (
        f"{ramp} %, {course.looks} looks a day for {course.days} days;"
        f" {ramps:,} ramps of each kind, seed {simulation.seed}"
    )
    yield _traffic(simulation)
    rows = [["", *found], *_rows(percentages, list(found.values()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((name.ljust(widths[0]), *right)).rstrip()
    yield "shares: with the 95 % interval that so few ramps leave"
    yield "days, users: the median (one ramp in ten has less … one in ten more)"


def json_of(simulation: "Simulation", effects: Mapping[str, Effect], found: Mapping[str, "Summary"]) -> dict[str, Any]:
    """The same; shares are 0 … 1, times days."""
    traffic = simulation.traffic
    return {
        "percentages": [step.percent for step in simulation.rollout.plan],
        "course": asdict(simulation.course),
        "seed": simulation.seed,
        "traffic": asdict(traffic)
        if isinstance(traffic, Traffic)
        else {
            "agent": traffic.agent,
            "recorded_users": traffic.record.users,
            "recorded_days": traffic.record.days,
            "recorded_requests": len(traffic.record.time),
            "users": traffic.people,
        },
        "finetunes": [
            {"name": name, "effect": asdict(effects[name]), **_plain(asdict(summary))}
            for name, summary in found.items()
        ],
    }


def _plain(value: Any) -> Any:
    """Named tuples as objects."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _traffic(simulation: "Simulation") -> str:
    traffic = simulation.traffic
    if isinstance(traffic, Traffic):
        return (
            f"assumed: {traffic.users_per_day:,} users a day, {traffic.returning:.0%} of them known,"
            f" {traffic.requests_per_user:g} requests each; the baseline answers {100 * traffic.success:g} %"
        )
    record = traffic.record
    return (
        f"recorded: {len(record.time):,} requests of {record.users:,} users of {traffic.agent} in {record.days} days;"
        f" {traffic.people:,} users are drawn; the baseline answers {100 - 100 * record.failed.mean():.4g} %"
    )


def _rows(percentages: Sequence[float], summaries: Sequence["Summary"]) -> Iterator[list[str]]:
    first, last = f"{percentages[0]:g} %", f"{percentages[-1]:g} %"
    yield ["stopped by a gate", *(_share(each.stopped) for each in summaries)]
    yield from _gates([each.stopped_by for each in summaries], summaries)
    yield [f"passed {first}", *(_share(each.passed_first) for each in summaries)]
    yield [f"came to {last}", *(_share(each.completed) for each in summaries)]
    yield ["undecided at the end", *(_share(each.undecided) for each in summaries)]
    yield from _gates([each.held_by for each in summaries], summaries)
    for number, percentage in enumerate(percentages[:-1]):
        stages = [each.stages[number] if number < len(each.stages) else None for each in summaries]
        yield [f"days at {percentage:g} %", *map(_days, stages)]
    yield [f"days to {last}", *(_days(each.days_to_complete) for each in summaries)]
    yield ["days until stopped", *(_days(each.days_to_stop) for each in summaries)]
    yield ["users on the fine-tune", *(_people(each) for each in summaries)]


def _gates(counts: Sequence[Mapping[str, int]], summaries: Sequence["Summary"]) -> Iterator[list[str]]:
    for gate in dict.fromkeys(gate for each in counts for gate in each):
        shares = (each.get(gate, 0) / summary.ramps for each, summary in zip(counts, summaries, strict=True))
        yield [f"  {gate}", *map(_percent, shares)]


def _share(share: "Share") -> str:
    return f"{_percent(share.share)} ({100 * share.lower:.1f} … {100 * share.upper:.1f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _days(spread: "Spread | None") -> str:
    if spread is None or not spread.ramps:
        return "–"
    return f"{spread.median:.2f} ({spread.p10:.2f} … {spread.p90:.2f})"


def _people(summary: "Summary") -> str:
    exposed = summary.exposed
    return f"{exposed.median:,.0f} ({exposed.p10:,.0f} … {exposed.p90:,.0f}) of {summary.people:,.0f}"

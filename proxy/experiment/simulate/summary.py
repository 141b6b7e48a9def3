"""What many ramps come to: shares with the error that drawing so few of them leaves.  Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from proxy.experiment.simulate.trial import End, Trial


class Share(NamedTuple):
    """Of ramps; with a 95 % interval (Wilson's), which says how many ramps were drawn and nothing else."""

    share: float
    lower: float
    upper: float


class Spread(NamedTuple):
    """Of the ramps that it was counted in; none: all zero."""

    ramps: int
    median: float
    p10: float
    p90: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all ramps with one effect."""

    ramps: int
    stopped: Share  # by a gate: rolled back, or paused where the policy says so
    completed: Share
    undecided: Share
    passed_first: Share  # of any gate's pass: the first step was left upwards
    stopped_by: dict[str, int]  # ramps, by gate
    held_by: dict[str, int]  # of the undecided ones, by gate; several gates may hold one
    stages: tuple[Spread, ...]  # days, by stage, of the ramps that passed it
    days_to_complete: Spread
    days_to_stop: Spread
    exposed: Spread  # people on the fine-tune
    exposed_mean: float
    people: float  # mean


def summarise(ramps: Sequence[Trial]) -> Summary:
    """At least one ramp."""
    ends = Counter(ramp.end for ramp in ramps)
    total = len(ramps)
    most = max(len(ramp.stages) for ramp in ramps)
    return Summary(
        total,
        share_of(ends[End.STOPPED], total),
        share_of(ends[End.COMPLETED], total),
        share_of(ends[End.UNDECIDED], total),
        share_of(sum(bool(ramp.stages) for ramp in ramps), total),
        _by_gate(ramps, End.STOPPED),
        _by_gate(ramps, End.UNDECIDED),
        tuple(_spread([ramp.stages[number] for ramp in ramps if len(ramp.stages) > number]) for number in range(most)),
        _spread([ramp.days for ramp in ramps if ramp.end is End.COMPLETED]),
        _spread([ramp.days for ramp in ramps if ramp.end is End.STOPPED]),
        _spread([ramp.exposed for ramp in ramps]),
        sum(ramp.exposed for ramp in ramps) / total,
        sum(ramp.people for ramp in ramps) / total,
    )


def _by_gate(ramps: Sequence[Trial], end: End) -> dict[str, int]:
    """The most frequent first."""
    return dict(Counter(gate for ramp in ramps if ramp.end is end for gate in ramp.gates).most_common())


def share_of(hits: int, total: int, z: float = 1.96) -> Share:
    """Hits of a total, with Wilson's interval (JASA 22, 1927)."""
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(len(ordered), *(float(ordered[round(share * last)]) for share in (0.5, 0.1, 0.9)))

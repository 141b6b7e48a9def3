"""What must hold during a soak and at its end; pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Samples are averaged in this many blocks, so that neighbours say little of each other; the quantile is Student's t
# at 97.5 % for as many less two.
BLOCKS = 20
QUANTILE = 2.101
# A process that grows by less than this is flat: allocators keep a little of every peak.
FLAT = 8.0  # MiB an hour
# What is read before is the start: caches fill, and the allocator finds its size.
WARM_UP = 0.25


class Sample(NamedTuple):
    """The proxy at one moment."""

    seconds: float  # since the start
    rss: float  # MiB
    tasks: int
    descriptors: int
    in_flight: int
    enqueued: int
    written: int
    dropped: int
    queued: int


class Slope(NamedTuple):
    """Per hour, with the half width of its 95 % confidence interval."""

    value: float
    half: float


@dataclass(slots=True)
class Sums:
    """What the load counted."""

    sent: int = 0
    answered: int = 0  # wholly and well
    broken: int = 0  # visibly, as was asked for
    left: int = 0
    lost: int = 0  # neither: what must not be
    reloads: int = 0
    outages: int = 0


def slope(times: Sequence[float], values: Sequence[float]) -> Slope | None:
    """Least squares through the means of `BLOCKS` blocks, per hour; None: too few values for that."""
    size = len(times) // BLOCKS
    if not size:
        return None
    x = [statistics.fmean(times[i * size : (i + 1) * size]) for i in range(BLOCKS)]
    y = [statistics.fmean(values[i * size : (i + 1) * size]) for i in range(BLOCKS)]
    fit = statistics.linear_regression(x, y)
    rest = sum((b - fit.intercept - fit.slope * a) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    return Slope(fit.slope * 3600, QUANTILE * math.sqrt(rest / (BLOCKS - 2) / spread) * 3600)


def growth(samples: Sequence[Sample]) -> Slope | None:
    """Of memory after the warm-up, MiB an hour."""
    settled = [each for each in samples if each.seconds >= samples[-1].seconds * WARM_UP]
    return slope([each.seconds for each in settled], [each.rss for each in settled])


def broken_laws(
    samples: Sequence[Sample], base: Sample, end: Sample, sums: Sums, outcomes: int, rows: int
) -> list[str]:
    """What does not hold; `base` was before the load, `end` is after it, `rows` are the store's when all is over."""
    problems = [
        f"after {each.seconds:.0f} s: {each.enqueued} enqueued, {each.written} written, {each.dropped} dropped, "
        f"{each.queued} queued"
        for each in [*samples, end]
        if each.enqueued != each.written + each.dropped + each.queued
    ][:3]
    if sums.lost:
        problems.append(f"{sums.lost} requests of {sums.sent} were not answered as they should")
    if not sums.sent - sums.left <= outcomes <= sums.sent:
        problems.append(f"{outcomes} outcomes of {sums.sent} requests, {sums.left} of whose clients left")
    if end.dropped or rows != outcomes:
        problems.append(f"{rows} rows in the store and {end.dropped} dropped, of {outcomes} requests")
    if end.in_flight:
        problems.append(f"{end.in_flight} requests are in flight, and nobody asks")
    if end.tasks > base.tasks:
        problems.append(f"{end.tasks} tasks at the end, {base.tasks} at the start")
    if end.descriptors > base.descriptors:
        problems.append(f"{end.descriptors} descriptors at the end, {base.descriptors} at the start")
    grown = growth(samples)
    if grown is not None and grown.value - grown.half > FLAT:
        problems.append(f"memory grows by {grown.value:.1f} ± {grown.half:.1f} MiB an hour")
    return problems

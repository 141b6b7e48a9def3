"""Whether a gate has seen enough to be judged, and how long until it has.  Pure.

An arm with fewer than `min.events` buckets with an event is too thin for a normal limit.  Yet a model that never
fails must not wait for failures: so few are enough where they would be a surprise, with chance alpha at most, were
the rate what the gate has to rule out, and were it as concentrated as can be: each bucket failing always or never.
For no event at all that is the rule of three, 300 buckets for one in a hundred: J. A. Hanley, A. Lippman-Hand, "If
nothing goes wrong, is everything all right?", JAMA 249 (1983).
"""

from collections.abc import Sequence
from math import ceil, log, log1p
from typing import NamedTuple

from proxy.experiment.bounds import ALPHA
from proxy.experiment.ratio import Arm

_ARMS = ("fine-tuned", "baseline")


class Shortage(NamedTuple):
    """What is missing."""

    detail: str
    eta: float | None  # seconds; None: nobody can say


class Side(NamedTuple):
    """One arm of one gate, over the stages that count, and in the current one."""

    arms: Sequence[Arm]
    current: Arm | None
    capacity: int  # buckets it can have at the current percentage

    @property
    def clusters(self) -> int:
        return len(set[int]().union(*(arm.buckets for arm in self.arms)))

    @property
    def events(self) -> int:
        """Buckets with an event."""
        return len(set[int]().union(*map(_with_event, self.arms)))


def too_few_users(sides: Sequence[Side], needed: int, age: float | None) -> Shortage | None:
    """Fewer than `needed` clusters in an arm; `age` is the current stage's, seconds."""
    missing = []
    for name, side in zip(_ARMS, sides, strict=False):
        have = side.clusters
        if have < needed:
            now = len(side.current.buckets) if side.current else 0
            wait = until(needed - have, now, age) if needed <= side.capacity else None
            missing.append(Shortage(f"{have} of {needed} {name} users", wait))
    return joined(missing)


def too_few_events(sides: Sequence[Side], needed: int, event: str, rate: float, age: float | None) -> Shortage | None:
    """Fewer than `needed` buckets with an event in an arm, and not because the rate is far below `rate`, a share."""
    missing = []
    for name, side in zip(_ARMS, sides, strict=False):
        have = side.events
        if have >= needed or is_surprising(have, side.clusters, rate):
            continue
        events = until(needed - have, len(_with_event(side.current)) if side.current else 0, age)
        enough = clusters_until_surprising(have, rate)
        clusters = None
        if enough is not None and enough <= side.capacity and side.current:
            clusters = until(enough - side.clusters, len(side.current.buckets), age)
        waits = [wait for wait in (events, clusters) if wait is not None]
        detail = f"{have} of {needed} {name} users with a {event}"
        missing.append(Shortage(detail, min(waits, default=None)))
    return joined(missing)


def is_surprising(events: int, clusters: int, rate: float, alpha: float = ALPHA) -> bool:
    """Whether as few as `events` among `clusters` have chance `alpha` at most where each has one with chance `rate`."""
    if rate <= 0.0 or events >= clusters:
        return False
    if rate >= 1.0:
        return True
    tail = term = (1.0 - rate) ** clusters
    for number in range(events):
        term *= (clusters - number) / (number + 1) * rate / (1.0 - rate)
        tail += term
    return tail <= alpha


def clusters_until_surprising(events: int, rate: float, alpha: float = ALPHA) -> int | None:
    """The least number of clusters at which `is_surprising`; None where no number is."""
    if not 0.0 < rate < 1.0:
        return None
    low, high = events, events + ceil(log(alpha) / log1p(-rate))
    while not is_surprising(events, high, rate, alpha):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_surprising(events, middle, rate, alpha) else (middle, high)
    return high


def until(missing: float, seen: float, age: float | None) -> float | None:
    """Seconds until `missing` more have come, when `seen` came within `age` seconds."""
    if missing <= 0.0:
        return 0.0
    return missing * age / seen if seen and age and age > 0.0 else None


def joined(missing: Sequence[Shortage]) -> Shortage | None:
    """All that is missing as one, for as long as the last of it takes; None where nothing is."""
    if not missing:
        return None
    waits = [each.eta for each in missing]
    eta = None if None in waits else max(wait for wait in waits if wait is not None)
    return Shortage(", ".join(each.detail for each in missing), eta)


def _with_event(arm: Arm) -> list[int]:
    return [bucket for bucket, y in zip(arm.buckets, arm.y, strict=True) if y > 0]

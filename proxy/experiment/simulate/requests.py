"""Requests between two looks, as arrays, and what becomes of them under the fine-tune."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from proxy.experiment.simulate.assumptions import Effect

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]


class Requests(NamedTuple):
    """Arrays of one length, an element for each request."""

    person: Whole  # place among the crowd's people
    failed: Flags
    latency: Floats  # seconds
    cost: Floats  # US dollars

    def part(self, low: int, high: int) -> "Requests":
        """From one place up to another."""
        return Requests(self.person[low:high], self.failed[low:high], self.latency[low:high], self.cost[low:high])


class Answers(NamedTuple):
    """What came of the requests, each on the arm that its user is assigned to."""

    person: Whole
    ok: Flags  # by whichever model
    first_ok: Flags  # by the assigned one
    rescued: Flags
    latency: Floats
    cost: Floats


class Crowd(Protocol):
    """The people of one simulated ramp."""

    buckets: Whole  # by person; everybody who will ever come
    failing: float  # the baseline's mean failure rate

    def requests(self, day: int, look: int) -> Requests:
        """The next requests: looks in their order, day -1 is the one before the ramp."""


def answered(rng: np.random.Generator, requests: Requests, finetuned: Flags, effect: Effect, failing: float) -> Answers:
    """What the requests end as; `finetuned` is by request.  Extra failures hit all users alike.

    `failing` is the mean failure rate of the baseline, so that `effect.success` is what it says on average.
    """
    person, failed, latency, cost = requests
    places = np.flatnonzero(finetuned)
    ok, rescued = ~failed, np.zeros(len(failed), bool)
    draws = rng.random(len(places))
    before = ok[places]
    if effect.success <= 0:
        after = before & (draws >= -effect.success / (1 - failing))
    else:
        after = before | (draws < effect.success / failing)
    ok[places] = after
    if effect.rescued:
        rescued[places] = after & (rng.random(len(places)) < effect.rescued / (1 - failing + effect.success))
    if effect.latency:
        latency = np.where(finetuned, latency * (1 + effect.latency), latency)
    if effect.cost:
        cost = np.where(finetuned, cost * (1 + effect.cost), cost)
    return Answers(person, ok, ok & ~rescued, rescued, latency, cost)

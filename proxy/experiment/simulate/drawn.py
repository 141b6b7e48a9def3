"""A crowd drawn from assumptions.

- A day's users are new ones and, the share that returns, some of those known; each makes one request and
  a Poisson number more, whose mean is lognormal between users.
- A user's failure rate is Beta distributed.  Latency and cost are lognormal, between a user's requests and
  between users.
"""

import numpy as np

from proxy.experiment.simulate.assumptions import Traffic
from proxy.experiment.simulate.requests import Floats, Requests, Whole

BUCKETS = 10_000


class DrawnCrowd:
    """Implements `Crowd`."""

    def __init__(self, rng: np.random.Generator, traffic: Traffic, days: int, looks: int) -> None:
        self._rng, self._traffic, self._looks = rng, traffic, looks
        daily = traffic.users_per_day
        self._back = round(daily * traffic.returning)
        self._known = daily  # who came on the day before the ramp
        people = daily + days * (daily - self._back)
        self.buckets: Whole = rng.integers(BUCKETS, size=people)
        self.failing = 1 - traffic.success
        more = max(0.0, traffic.requests_per_user - 1)
        self._more = more * _lognormal(rng, traffic.spread, people)
        self._failing = _failure_rates(rng, self.failing, traffic.heterogeneity, people)
        self._latency = traffic.latency * np.exp(traffic.latency_between * rng.standard_normal(people))
        self._cost = traffic.cost * np.exp(traffic.cost_between * rng.standard_normal(people))
        self._day = -1
        self._come(-1)

    def requests(self, day: int, look: int) -> Requests:
        """See `Crowd`."""
        if day != self._day:
            self._day = day
            self._come(day)
        low, high = self._ends[look : look + 2]
        return self._requests.part(low, high)

    def _come(self, day: int) -> None:
        """The requests of a day, in the order of the looks before which they come."""
        rng, traffic = self._rng, self._traffic
        today = self._users(day)
        person = np.repeat(today, 1 + rng.poisson(self._more[today]))
        size = len(person)
        look = rng.integers(self._looks, size=size, dtype=np.uint8)
        person = person[np.argsort(look, kind="stable")]
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(look, minlength=self._looks))])
        failing = self._failing[person]
        if traffic.drift:
            failing = failing - traffic.drift * (day + np.arange(size) / size)
        latency = self._latency[person] * np.exp(traffic.latency_spread * rng.standard_normal(size))
        cost = self._cost[person] * np.exp(traffic.cost_spread * rng.standard_normal(size))
        self._requests = Requests(person, rng.random(size) < failing, latency, cost)

    def _users(self, day: int) -> Whole:
        """Who is there; those known come back with equal chances."""
        if day < 0:
            return np.arange(self._known)
        fresh = np.arange(self._known, self._known + self._traffic.users_per_day - self._back)
        back = self._rng.choice(self._known, self._back, replace=False, shuffle=False)
        self._known += len(fresh)
        return np.concatenate([back, fresh])


def _lognormal(rng: np.random.Generator, spread: float, size: int) -> Floats:
    """With mean 1."""
    return np.exp(spread * rng.standard_normal(size) - spread**2 / 2)


def _failure_rates(rng: np.random.Generator, mean: float, deviation: float, size: int) -> Floats:
    """Beta distributed; all alike where there is no deviation."""
    if not deviation:
        return np.full(size, mean)
    weight = mean * (1 - mean) / deviation**2 - 1
    return rng.beta(mean * weight, (1 - mean) * weight, size)

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
        self._today: Whole = np.arange(daily)
        self._arrival: Whole = rng.integers(looks, size=daily)

    def requests(self, day: int, look: int) -> Requests:
        """See `Crowd`."""
        rng, traffic = self._rng, self._traffic
        if look == 0 and day >= 0:
            self._come()
        numbers = rng.poisson(self._more[self._today] / self._looks) + (self._arrival == look)
        person = np.repeat(self._today, numbers)
        failing = self._failing[person] - traffic.drift * (day + look / self._looks)
        latency = self._latency[person] * np.exp(traffic.latency_spread * rng.standard_normal(len(person)))
        cost = self._cost[person] * np.exp(traffic.cost_spread * rng.standard_normal(len(person)))
        return Requests(person, rng.random(len(person)) < failing, latency, cost)

    def _come(self) -> None:
        """Who is there on the next day."""
        rng, fresh = self._rng, self._traffic.users_per_day - self._back
        back = rng.choice(self._known, self._back, replace=False, shuffle=False)
        self._today = np.concatenate([back, np.arange(self._known, self._known + fresh)])
        self._arrival = rng.integers(self._looks, size=len(self._today))
        self._known += fresh


def _lognormal(rng: np.random.Generator, spread: float, size: int) -> Floats:
    """With mean 1."""
    return np.exp(spread * rng.standard_normal(size) - spread**2 / 2)


def _failure_rates(rng: np.random.Generator, mean: float, deviation: float, size: int) -> Floats:
    """Beta distributed; all alike where there is no deviation."""
    if not deviation:
        return np.full(size, mean)
    weight = mean * (1 - mean) / deviation**2 - 1
    return rng.beta(mean * weight, (1 - mean) * weight, size)

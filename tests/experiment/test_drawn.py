"""A drawn crowd is what was assumed."""

from itertools import chain

import numpy as np
import pytest

from proxy.experiment.simulate.assumptions import Traffic
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.requests import Requests

DAYS, LOOKS = 5, 4


def drawn(traffic: Traffic, seed: int = 1) -> list[list[Requests]]:
    """By day, the one before among them, and look."""
    crowd = DrawnCrowd(np.random.default_rng(seed), traffic, DAYS, LOOKS)
    return [[crowd.requests(day, look) for look in range(LOOKS)] for day in range(-1, DAYS)]


def test_days_have_their_users_and_the_share_that_returns() -> None:
    known: set[int] = set()
    for number, looks in enumerate(drawn(Traffic(users_per_day=400, returning=0.75))):
        users = set(np.concatenate([requests.person for requests in looks]).tolist())
        assert len(users) == 400
        assert len(users & known) == (300 if number else 0)
        known |= users


def test_requests_fail_cost_and_last_as_assumed() -> None:
    traffic = Traffic(users_per_day=4000, requests_per_user=8, success=0.9, heterogeneity=0.1, latency=3.0, cost=0.004)
    person, failed, latency, cost = (np.concatenate(column) for column in zip(*chain(*drawn(traffic)), strict=True))
    assert len(person) == pytest.approx(4000 * 8 * (DAYS + 1), rel=0.05)
    assert failed.mean() == pytest.approx(0.1, abs=0.01)
    assert np.median(latency) == pytest.approx(3.0, rel=0.03)
    assert np.median(cost) == pytest.approx(0.004, rel=0.05)


def test_some_users_are_heavy_and_users_differ() -> None:
    traffic = Traffic(users_per_day=4000, requests_per_user=20, spread=1.5, success=0.9, heterogeneity=0.1)
    person, failed, *_ = (np.concatenate(column) for column in zip(*drawn(traffic)[1], strict=True))
    requests, failures = np.bincount(person), np.bincount(person, failed)
    busy = requests >= 30
    assert np.sort(requests)[-len(requests) // 20 :].sum() > 0.3 * requests.sum()
    assert np.std(failures[busy] / requests[busy]) == pytest.approx(0.1, abs=0.03)


def test_drift_makes_every_day_worse() -> None:
    failing = [np.concatenate([each.failed for each in looks]).mean() for looks in
               drawn(Traffic(users_per_day=4000, success=0.95, heterogeneity=0, drift=-0.05))[1:]]  # fmt: skip
    assert failing == pytest.approx([0.075, 0.125, 0.175, 0.225, 0.275], abs=0.015)


def test_looks_share_a_day_evenly_and_the_seed_decides() -> None:
    first, again, other = (drawn(Traffic(users_per_day=2000), seed)[1] for seed in (1, 1, 2))
    sizes = [len(requests.person) for requests in first]
    assert sizes == pytest.approx([sum(sizes) / LOOKS] * LOOKS, rel=0.1)
    assert [each.latency.sum() for each in first] == [each.latency.sum() for each in again]
    assert [each.latency.sum() for each in first] != [each.latency.sum() for each in other]

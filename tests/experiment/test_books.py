"""The sums are those of the requests, by bucket, stage and arm."""

import numpy as np

from proxy.experiment.evidence import BucketSums, Exposed, Thresholds
from proxy.experiment.simulate.books import Books, evidence_of, thresholds_of
from proxy.experiment.simulate.requests import Answers, Requests

THRESHOLDS = Thresholds(tau=4.0, latency_cap=10.0, cost_cap=0.5, frozen=0.0)
BUCKETS = np.array([5000, 7, 7, 2400])  # of four people


def answers(*rows: tuple[int, bool, bool, bool, float, float]) -> Answers:
    person, ok, first_ok, rescued, latency, cost = map(np.array, zip(*rows, strict=True))
    return Answers(person, ok, first_ok, rescued, latency, cost)


def test_sums_stages_and_people_are_as_the_store_would_keep_them() -> None:
    books = Books(BUCKETS, THRESHOLDS)
    books.begin(10)
    assert books.finetuned.tolist() == [False, True, True, False]
    books.add(answers((1, True, True, False, 1.0, 0.1), (2, True, False, True, 20.0, 0.2)))
    books.add(answers((1, False, False, False, 5.0, 0.9), (0, True, True, False, 4.0, 0.1)))
    assert books.users == (2, 1)
    books.begin(25)
    books.add(answers((3, True, True, False, 1.0, 0.1), (1, True, True, False, 1.0, 0.1)))
    evidence = evidence_of(books, 60.0, 1000.0, {"success": 0.5})
    first, second = evidence.stages
    assert first.percentage == 10
    assert first.buckets == (
        BucketSums(7, True, 3, 2, 1, 1, 2, 16.0, 0.1 + 0.2 + 0.5, 0, 0.0),
        BucketSums(5000, False, 1, 1, 1, 0, 0, 4.0, 0.1, 0, 0.0),
    )
    assert [(sums.bucket, sums.treated, sums.requests) for sums in second.buckets] == [(7, True, 1), (2400, True, 1)]
    assert evidence.exposed == (Exposed(10, 2, 1), Exposed(25, 1, 0))
    assert evidence.users == (2, 0)
    assert (evidence.percentage, evidence.since, evidence.thresholds) == (25, 940.0, THRESHOLDS)
    assert books.tried == 3


def test_thresholds_are_the_quantiles_of_the_day_before() -> None:
    seconds = np.arange(1, 1001) / 100
    frozen = thresholds_of(Requests(np.zeros(1000, int), np.zeros(1000, bool), seconds, seconds / 10))
    assert round(frozen.tau, 1) == 9.5
    assert round(frozen.latency_cap, 2) == 9.95
    assert round(frozen.cost_cap, 3) == 0.995

"""Simulated ramps that take the real path: records, the ledger's batches, SQLite, `read_evidence`, `judge`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import numpy as np

from proxy.experiment.evidence import Evidence, Thresholds
from proxy.experiment.judge import SRM, judge
from proxy.experiment.read import read_evidence
from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.books import FAILED, REQUESTS, Books
from proxy.experiment.simulate.decide import Look, Move
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.judged import judged, look_of
from proxy.experiment.simulate.requests import Answers, Crowd, Flags, Floats, Requests, Whole, answered
from proxy.experiment.simulate.trial import Trial, run_trial
from proxy.ids import Ids
from proxy.ledger.batch import Batch, write
from proxy.ledger.database import Database
from proxy.ledger.thresholds import freeze
from proxy.policy.config_rollout import GatesConfig, RolloutConfig
from proxy.split.assign import bucket_of, murmur3
from proxy.words import Assignment, Attempt, Decision, Failure, Record, Variant
from tests.support.records import SOUND, row_of

START = 1_795_000_000.0  # Unix seconds
AGENT, SALT = "qa_agent", "qa_agent/ft:m"
# The heaviest twentieth of the users makes two fifths of the requests, and users fail unlike each other.
HEAVY = Traffic(users_per_day=400, requests_per_user=10, spread=1.5, returning=0.7, success=0.97, heterogeneity=0.05)
# Many users, so that a mean of some ramps tells a bias of 0.2 points from none.
MANY = Traffic(users_per_day=1500, requests_per_user=6, returning=0.7, success=0.97, heterogeneity=0.03)
# Only these can roll back, and only these are asked: no signal keeps a ramp from passing.
GUARDRAILS: Mapping[str, Any] = {"cost": None, "latency_mean": None, "feedback": None}
_ids = Ids()


def rollout_of(*percentages: float, gates: Mapping[str, Any] = GUARDRAILS, **step: Any) -> RolloutConfig:
    """The default gates without signals; each step may differ from the default."""
    steps = [{"percent": percentage, **step} for percentage in percentages]
    return RolloutConfig.model_validate({"steps": steps, "gates": dict(gates)})


def hashed(crowd: DrawnCrowd) -> DrawnCrowd:
    """The same people in the buckets that the split puts them into."""
    crowd.buckets = np.array([bucket_of(murmur3(SALT, b"user-%d" % person)) for person in range(len(crowd.buckets))])
    return crowd


class StoredBooks(Books):
    """Books that are kept in a store, too, and judged by what it says."""

    def __init__(self, buckets: Whole, thresholds: Thresholds, database: Database, seconds: float) -> None:
        super().__init__(buckets, thresholds)
        self._of, self._database, self._seconds = buckets, database, seconds
        self._now = START
        self.kept: list[tuple[float, Answers]] = []

    def add(self, answers: Answers) -> None:
        super().add(answers)
        percentage = self.stages[-1].percentage
        self.kept.append((percentage, answers))
        rows = [row_of(record) for record in self._records(answers, percentage)]
        self._now += self._seconds
        write(self._database, Batch(f"batch-{len(self.kept)}", rows), "proxy", self._now)
        freeze(self._database, self._now)

    def evidence(self, percentage: float) -> Evidence:
        """What the store has, were this the current stage."""
        return read_evidence(self._database, AGENT, SALT, percentage, self._now)

    def look(self, _: Books, rollout: RolloutConfig, age: float, srm_p: float, *, thorough: bool) -> Look:
        """A `Looker`."""
        del age, thorough
        evidence = replace(self.evidence(self.stages[-1].percentage), p_values={SRM: srm_p})
        return look_of(judge(evidence, rollout))

    def _records(self, answers: Answers, percentage: float) -> Iterator[Record]:
        columns = (column.tolist() for column in answers)
        for number, (person, ok, _, rescued, latency, cost) in enumerate(zip(*columns, strict=True)):
            time = self._now + self._seconds * number / len(answers.person)
            bucket = int(self._of[person])
            variant = Variant.FINETUNED if bucket < round(percentage * 100) else Variant.BASELINE
            model = "ft:m" if variant is Variant.FINETUNED else "m"
            first = Attempt("up", model, 200, None, 0.0, latency, None, cost)
            failed = replace(first, status=502, failure=Failure.SERVER_ERROR)
            yield replace(
                SOUND,
                request_id=_ids.new(time),
                time=time,
                decision=Decision(variant, Assignment(variant.value), bucket),
                percentage=percentage,
                served="m" if rescued else model if ok else "",
                status=200 if ok else 502,
                failure=None if ok else Failure.SERVER_ERROR,
                fallback=Failure.SERVER_ERROR if rescued else None,
                attempts=(failed, replace(first, model="m")) if rescued else (first if ok else failed,),
                latency=latency,
                cost=cost,
                unit=f"{person:032x}",
            )


def run_stored(
    rng: np.random.Generator, crowd: Crowd, rollout: RolloutConfig, effect: Effect, course: Course, database: Database
) -> tuple[Trial, StoredBooks]:
    """A ramp through an empty store."""
    made: list[StoredBooks] = []

    def books_of(buckets: Whole, thresholds: Thresholds) -> Books:
        made.append(StoredBooks(buckets, thresholds, database, course.seconds))
        return made[0]

    def look(books: Books, rollout: RolloutConfig, age: float, srm_p: float, *, thorough: bool) -> Look:
        return made[0].look(books, rollout, age, srm_p, thorough=thorough)

    return run_trial(rng, crowd, rollout, effect, course, look, books_of), made[0]


def independent(books: Books, rollout: RolloutConfig, age: float, srm_p: float, *, thorough: bool) -> Look:
    """What not to do: requests taken for independent, a plain z test of the success rate at every look."""
    del rollout, age, thorough
    stage = books.stages[-1]
    treated, control = (stage.sums[[FAILED, REQUESTS], part].sum(axis=1) for part in
                        (np.s_[: stage.finetuned], np.s_[stage.finetuned :]))  # fmt: skip
    return Look(Move.STOP if _z(treated, control) > 1.96 else Move.STAY, (), srm_p)


def _z(treated: Floats, control: Floats) -> float:
    """Of the first rate being higher than the second; rates are Y over N."""
    pooled = (treated[0] + control[0]) / (treated[1] + control[1])
    spread = (pooled * (1 - pooled) * (1 / treated[1] + 1 / control[1])) ** 0.5 if treated[1] and control[1] else 0
    return float((treated[0] / treated[1] - control[0] / control[1]) / spread) if spread else 0.0


Answerer = Callable[[np.random.Generator, Requests, Flags], Answers]


def by_calendar(
    rng: np.random.Generator, crowd: Crowd, course: Course, percentages: tuple[float, ...], answer: Answerer
) -> Books:
    """The books of a ramp that goes by the calendar: each percentage for an equal share of the looks."""
    books = Books(crowd.buckets, Thresholds(inf, inf, inf, 0.0))
    each = course.days * course.looks // len(percentages)
    for look in range(each * len(percentages)):
        if look % each == 0:
            books.begin(percentages[look // each])
        requests = crowd.requests(*divmod(look, course.looks))
        books.add(answer(rng, requests, books.finetuned[requests.person]))
    return books


def harm_of(books: Books) -> float:
    """By how much more the fine-tune fails, as `judge` tells it."""
    alone = dict.fromkeys(GatesConfig.model_fields) | {"success": {"kind": "guardrail", "margin": "-1pp"}}
    steps = rollout_of(*(stage.percentage for stage in books.stages), 100, gates=alone)
    (success,) = judged(books, steps, 1.0, 1.0).gates
    return success.estimate


def pooled_harm_of(books: Books) -> float:
    """What not to do: all stages in one pot."""
    y, n = (np.zeros(2) for _ in range(2))
    for stage in books.stages:
        for arm, part in enumerate((np.s_[: stage.finetuned], np.s_[stage.finetuned :])):
            y[arm] += stage.sums[FAILED, part].sum()
            n[arm] += stage.sums[REQUESTS, part].sum()
    return float(y[0] / n[0] - y[1] / n[1])


def falling_week(seed: int) -> tuple[float, float]:
    """A fine-tune as good as the baseline, in a week in which both get worse: its harm, stratified and pooled."""
    traffic = replace(MANY, drift=-0.01)
    rng = np.random.default_rng(seed)
    course = Course(days=7, looks=3)
    crowd = DrawnCrowd(rng, traffic, course.days, course.looks)
    books = by_calendar(rng, crowd, course, (10.0, 25.0, 50.0), partial(_as_good, crowd.failing))
    return harm_of(books), pooled_harm_of(books)


def _as_good(failing: float, rng: np.random.Generator, requests: Requests, finetuned: Flags) -> Answers:
    return answered(rng, requests, finetuned, Effect(), failing)


class Contamination:
    """A fine-tune that leaves many hard requests to the baseline, and answers the others of them.

    Every request's outcome on both arms is known, and so is the truth.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._worse = self._requests = 0.0
        self._apart = np.zeros((2, 2))  # failed and all, without rescued requests: fine-tuned, baseline
        self._served = np.zeros((2, 2))  # of the model that answered
        course = Course(days=7, looks=3)
        crowd = DrawnCrowd(rng, MANY, course.days, course.looks)
        self.harm = harm_of(by_calendar(rng, crowd, course, (10.0, 25.0, 50.0), self._answered))

    @property
    def truth(self) -> float:
        """Failures more, were everybody on the fine-tune."""
        return self._worse / self._requests

    @property
    def without_rescued(self) -> float:
        """What not to do: leave out who was rescued."""
        return _difference(self._apart)

    @property
    def as_served(self) -> float:
        """What not to do: count a rescued request for the model that answered it."""
        return _difference(self._served)

    def _answered(self, rng: np.random.Generator, requests: Requests, finetuned: Flags) -> Answers:
        hard = requests.failed  # on the baseline
        left = rng.random(len(hard)) < np.where(hard, 0.6, 0.08)  # by the fine-tune
        self._worse += float((hard & left).sum() - hard.sum())
        self._requests += len(hard)
        failed = np.where(finetuned, hard & left, hard)
        rescued = finetuned & left
        for counts, groups in (
            (self._apart, (finetuned & ~rescued, ~finetuned)),
            (self._served, (finetuned & ~rescued, ~finetuned | rescued)),
        ):
            for arm, group in enumerate(groups):
                counts[arm] += failed[group].sum(), group.sum()
        return Answers(requests.person, ~failed, ~failed & ~rescued, rescued, requests.latency, requests.cost)


def _difference(counts: Floats) -> float:
    return float(counts[0, 0] / counts[0, 1] - counts[1, 0] / counts[1, 1])

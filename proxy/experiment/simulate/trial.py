"""One ramp from its first step to its end: traffic comes, somebody looks, the gates decide."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from proxy.experiment.evidence import Thresholds
from proxy.experiment.simulate.assumptions import Course, Effect
from proxy.experiment.simulate.books import Books, thresholds_of
from proxy.experiment.simulate.decide import Look, Move, decide
from proxy.experiment.simulate.requests import Crowd, Requests, Whole, answered
from proxy.policy.config_rollout import RolloutConfig


class End(StrEnum):
    """How a ramp ended."""

    COMPLETED = "completed"  # it came to its last step
    STOPPED = "stopped"  # a gate failed
    UNDECIDED = "undecided"  # when the time was over


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one."""

    end: End
    days: float  # until then
    stages: tuple[float, ...]  # days that each stage took that was passed
    gates: tuple[str, ...]  # that stopped it, or that held it at the end
    exposed: int  # distinct people who were served by the fine-tune, up to the last day
    people: int  # distinct people in all


class Looker(Protocol):
    """`decide`, or what looks at the same books in another way."""

    def __call__(self, books: Books, rollout: RolloutConfig, age: float, srm_p: float, *, thorough: bool) -> Look:
        """See `decide`."""


def run_trial(
    rng: np.random.Generator,
    crowd: Crowd,
    rollout: RolloutConfig,
    effect: Effect,
    course: Course,
    looker: Looker = decide,
    books_of: Callable[[Whole, Thresholds], Books] = Books,
) -> Trial:
    """Run it.  An approval is given at once; who is stopped stays so."""
    percentages = [step.percent for step in rollout.plan]
    books = books_of(crowd.buckets, thresholds_of(_day_before(crowd, course)))
    books.begin(percentages[0])
    passed: list[float] = []
    began, srm_p = 0, 1.0
    for look in range(course.days * course.looks):
        if percentages[len(passed)] == 100:  # nobody is left to compare with
            break
        requests = crowd.requests(*divmod(look, course.looks))
        books.add(answered(rng, requests, books.finetuned[requests.person], effect, crowd.failing))
        seen = looker(books, rollout, (look + 1 - began) * course.seconds, srm_p, thorough=False)
        srm_p = seen.srm_p
        if seen.move is Move.STOP:
            by = seen.named(Move.STOP)[:1] or seen.named(Move.STAY)  # for too long
            return Trial(End.STOPPED, (look + 1) / course.looks, tuple(passed), by, books.tried, len(crowd.buckets))
        if seen.move is Move.ON and len(passed) + 1 < len(percentages):
            passed.append((look + 1 - began) / course.looks)
            began = look + 1
            books.begin(percentages[len(passed)])
    completed = len(passed) + 1 == len(percentages)
    age = (course.days * course.looks - began) * course.seconds
    held = () if completed else looker(books, rollout, age, srm_p, thorough=True).named(Move.STAY)
    everybody = completed and percentages[-1] == 100
    return Trial(
        End.COMPLETED if completed else End.UNDECIDED,
        began / course.looks if completed else float(course.days),
        tuple(passed),
        held,
        len(crowd.buckets) if everybody else books.tried,
        len(crowd.buckets),
    )


def _day_before(crowd: Crowd, course: Course) -> Requests:
    """What thresholds are frozen from."""
    looks = [crowd.requests(-1, look) for look in range(course.looks)]
    person, failed, latency, cost = (np.concatenate(column) for column in zip(*looks, strict=True))
    return Requests(person, failed, latency, cost)

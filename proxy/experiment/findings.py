"""What the report tells of one agent: the verdict, what it rests on, and how it came about.

All but the verdict's own evidence comes from a few sums: stages, people, and hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import NamedTuple

from proxy.experiment.evidence import Evidence, Stage
from proxy.experiment.memory import Decision, history
from proxy.experiment.verdict import Verdict
from proxy.ledger.database import Database
from proxy.ledger.report import HOUR
from proxy.policy.config_rollout import RolloutConfig
from proxy.words import Variant

# How far back the course of a ramp is told.
MOST_HOURS = 30 * 24
# Decisions that are told.
MOST_DECISIONS = 5


class Arm(NamedTuple):
    """Requests of one arm, by who they were assigned to or by who answered."""

    requests: int
    ok: int  # answered
    cost: float = 0.0  # US dollars, not capped

    @property
    def success(self) -> float | None:
        """The share that was answered."""
        return self.ok / self.requests if self.requests else None

    def plus(self, other: "Arm") -> "Arm":
        """Both together."""
        return Arm(self.requests + other.requests, self.ok + other.ok, self.cost + other.cost)


NOBODY = Arm(0, 0)


class Arms(NamedTuple):
    """Both of them."""

    finetuned: Arm
    baseline: Arm


class Course(NamedTuple):
    """One hour of both arms, as assigned; `left`: fine-tuned requests that went on to the baseline, whatever for."""

    hour: int  # Unix hours
    finetuned: Arm
    baseline: Arm
    first_ok: int  # fine-tuned requests that its first attempt answered
    left: int


class StageLine(NamedTuple):
    """One stage, as the table shows it."""

    percentage: float
    since: float | None  # Unix seconds of its first and its latest request
    until: float | None
    users: tuple[int, int]  # distinct: fine-tuned, baseline; who is in several stages is in each
    arms: Arms


@dataclass(frozen=True, slots=True)
class Finding:
    """One agent."""

    evidence: Evidence  # without its buckets
    verdict: Verdict
    rollout: RolloutConfig
    stages: tuple[StageLine, ...]
    course: tuple[Course, ...]  # hour by hour, from the ramp's start
    decisions: tuple[Decision, ...] = ()  # the latest ones, newest first

    @property
    def agent(self) -> str:
        """Its name."""
        return self.evidence.agent

    @property
    def stage_hours(self) -> tuple[Course, ...]:
        """The hours of the current stage; its first one may hold requests of the stage before."""
        since = self.evidence.since
        return () if since is None else tuple(each for each in self.course if each.hour >= floor(since / HOUR))

    @property
    def assigned(self) -> Arms:
        """The current stage by who was assigned: the view that decides."""
        hours = self.stage_hours
        return Arms(_sum(each.finetuned for each in hours), _sum(each.baseline for each in hours))

    @property
    def served(self) -> Arms:
        """The current stage by who answered: a request that left the fine-tune is the baseline's.

        How many of those that stayed were answered is at least `first_ok`, and at least all answered ones
        but those that left.  The larger of the two is exact where the fine-tune is not retried, which is
        the default, or where every rescue succeeded.
        """
        assigned, hours = self.assigned, self.stage_hours
        treated = assigned.finetuned
        left, first_ok = sum(each.left for each in hours), sum(each.first_ok for each in hours)
        kept = Arm(treated.requests - left, max(first_ok, treated.ok - left))
        rescued = Arm(left, treated.ok - kept.ok)
        return Arms(kept, assigned.baseline._replace(cost=0.0).plus(rescued))

    @property
    def fallback_rate(self) -> float | None:
        """The share of the stage's fine-tuned requests that went on to the baseline, whatever for."""
        requests = self.assigned.finetuned.requests
        return sum(each.left for each in self.stage_hours) / requests if requests else None


def find(
    database: Database, evidence: Evidence, verdict: Verdict, rollout: RolloutConfig, hours: Sequence[Course]
) -> Finding:
    """The finding of an agent; `hours` are its part of `read_course`.  Raises DatabaseUnavailable."""
    key = (evidence.agent, evidence.salt)
    times = {row[0]: row[1:] for row in database.execute(_STAGES, key)}
    users: dict[tuple[float, str], int] = {row[:2]: row[2] for row in database.execute(_USERS, key)}
    begun = [since for since, _ in times.values()]
    lines = [_line(stage, times, users) for stage in evidence.stages]
    course = tuple(each for each in hours if begun and each.hour >= floor(min(begun) / HOUR))
    decided = tuple(history(database, evidence.agent, MOST_DECISIONS))
    told = replace(evidence, stages=())  # of many agents, the buckets would not fit in memory
    return Finding(told, verdict, rollout, tuple(lines), course, decided)


def read_course(database: Database, now: float) -> Mapping[str, tuple[Course, ...]]:
    """The compared requests of all agents, hour by hour, a month back.  Raises DatabaseUnavailable."""
    found: dict[str, dict[int, dict[str, tuple[int, int, int, int, float]]]] = {}
    for agent, hour, variant, *sums in database.execute(_HOURS, (floor(now / HOUR) - MOST_HOURS,)):
        found.setdefault(agent, {}).setdefault(hour, {})[variant] = tuple(sums)
    return {agent: tuple(_course(hour, arms) for hour, arms in sorted(hours.items())) for agent, hours in found.items()}


def _course(hour: int, arms: Mapping[str, tuple[int, int, int, int, float]]) -> Course:
    requests, ok, first_ok, left, cost = arms.get(Variant.FINETUNED, (0, 0, 0, 0, 0.0))
    others, others_ok, _, _, others_cost = arms.get(Variant.BASELINE, (0, 0, 0, 0, 0.0))
    return Course(hour, Arm(requests, ok, cost), Arm(others, others_ok, others_cost), first_ok, left)


def _line(
    stage: Stage, times: Mapping[float, tuple[float, float]], users: Mapping[tuple[float, str], int]
) -> StageLine:
    since, until = times.get(stage.percentage, (None, None))
    arms = Arms(
        _sum(Arm(each.requests, each.ok) for each in stage.buckets if each.treated),
        _sum(Arm(each.requests, each.ok) for each in stage.buckets if not each.treated),
    )
    people = [users.get((stage.percentage, variant), 0) for variant in (Variant.FINETUNED, Variant.BASELINE)]
    return StageLine(stage.percentage, since, until, (people[0], people[1]), arms)


def _sum(arms: Iterable[Arm]) -> Arm:
    total = NOBODY
    for arm in arms:
        total = total.plus(arm)
    return total


_STAGES = "SELECT percentage, first_time, last_time FROM stages WHERE agent = ? AND salt = ?"
_USERS = "SELECT percentage, variant, count(*) FROM exposures WHERE agent = ? AND salt = ? GROUP BY percentage, variant"
_HOURS = (
    "SELECT agent, hour, variant, CAST(sum(requests) AS bigint), CAST(sum(ok) AS bigint),"
    " CAST(sum(first_ok) AS bigint), CAST(sum(fallbacks) AS bigint), sum(cost)"
    " FROM hours WHERE hour >= ? AND assignment IN ('finetuned', 'baseline') GROUP BY agent, hour, variant"
)

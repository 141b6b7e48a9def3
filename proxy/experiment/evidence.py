"""What a verdict rests on: sums by bucket and stage, people, and what has been decided before.  Pure.

The randomised unit is the user and the stored one the bucket; a stage is the time an agent spent at one
percentage with one salt.  Everything is by *assigned* variant: intention to treat.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from proxy.words import Brake


class BucketSums(NamedTuple):
    """The requests of one bucket in one stage, added up."""

    bucket: int  # 0 … 9999
    treated: bool  # assigned to the fine-tune
    requests: int
    ok: int  # answered, by whichever model
    first_ok: int  # by the assigned model at the first attempt
    fallbacks: int  # rescued from a failing model: neither budget nor brake
    slow: int  # slower than the frozen tau
    latency: float  # seconds, each request's capped
    cost: float  # US dollars, each request's capped
    rated: int
    score: float  # sum of ratings, each 0 … 1


class Stage(NamedTuple):
    """One percentage of one salt."""

    percentage: float
    buckets: tuple[BucketSums, ...]


class Exposed(NamedTuple):
    """Distinct users whose first request of all was in a stage."""

    percentage: float
    finetuned: int
    baseline: int


class Thresholds(NamedTuple):
    """What is frozen from the baseline's latest requests when a stage begins."""

    tau: float  # seconds: the baseline's p95 when the rollout began, the same in all stages of a salt
    latency_cap: float  # seconds: its p99.5 when the stage began
    cost_cap: float  # US dollars: likewise
    frozen: float  # Unix seconds


class Hold(NamedTuple):
    """What keeps a ramp from moving until a person says otherwise."""

    kind: str  # paused | failed
    reason: str
    time: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything known of one agent's ramp at one moment."""

    agent: str
    salt: str
    percentage: float  # the policy's, now
    now: float  # Unix seconds
    stages: tuple[Stage, ...]  # of the salt, by percentage; 0 % among them where it was observed
    exposed: tuple[Exposed, ...]
    users: tuple[int, int]  # distinct ones in the current stage: fine-tuned, baseline
    since: float | None  # Unix seconds when the current stage began; None: no request has come in it
    newest: float | None  # of the agent's latest compared request in the store
    newest_of_any: float | None  # of any agent's: how fresh the store is
    missing_users: float | None  # share of the agent's requests since `since` that named no user
    thresholds: Thresholds | None  # of the current stage; None: too few baseline requests yet
    brake: Brake | None
    hold: Hold | None
    p_values: Mapping[str, float]  # the smallest so far, by test

"""What may happen to a ramp, in words that a program and a person can read.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """Of a gate, and of all together."""

    PASS = "pass"  # noqa: S105 a word
    FAIL = "fail"
    HOLD = "hold"


class Reason(StrEnum):
    """Why it is not a pass."""

    BRAKE = "BRAKE"
    FAILED = "FAILED"  # an earlier failure that nobody has cleared
    PAUSED = "PAUSED"
    NOT_STARTED = "NOT_STARTED"  # at 0 %, and nothing says when to begin
    OBSERVING = "OBSERVING"  # at 0 %, `rollout.observe` is not over
    STALE = "STALE"
    NO_TRAFFIC = "NO_TRAFFIC"
    GUARDRAIL_FAIL = "GUARDRAIL_FAIL"  # of a metric
    SRM = "SRM"
    MISSING_USERS = "MISSING_USERS"
    INSUFFICIENT_USERS = "INSUFFICIENT_USERS"  # of a metric, or of the stage
    INCONCLUSIVE = "INCONCLUSIVE"  # of a metric
    SOAK = "SOAK"
    APPROVAL = "APPROVAL"
    COMPLETE = "COMPLETE"  # the last stage: there is nothing to go on to


class Because(NamedTuple):
    """One reason; shown as `INCONCLUSIVE(latency_p95)`."""

    reason: Reason
    metric: str = ""
    eta: float | None = None  # seconds until it may be gone, at today's traffic; None: nobody can say
    detail: str = ""  # in plain words, with the numbers

    def __str__(self) -> str:
        return f"{self.reason}({self.metric})" if self.metric else str(self.reason)


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate.  Estimate, bounds and margin are on the harm scale: positive is worse."""

    gate: str  # its name in the policy
    kind: str  # guardrail | signal
    outcome: Outcome
    because: Because | None  # None: it passes on its numbers; with one, a pass is for want of data: `on_insufficient`
    scale: str  # points: shares | relative: a change of the mean, 0.1 is 10 % more | score: of a rating
    finetuned: float | None  # the metric as people read it: success rate, share, seconds, dollars, mean rating
    baseline: float | None  # None for a ceiling
    estimate: float | None
    lower: float | None  # one-sided bounds, always valid, that decided: at the guardrail's share of alpha, and
    upper: float | None  # at the full alpha
    margin: float
    clusters: tuple[int, int]  # buckets with data: fine-tuned, baseline


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates of one agent, and what follows."""

    agent: str
    percentage: float
    next_percentage: float | None  # where a pass leads; None: nowhere
    outcome: Outcome
    because: tuple[Because, ...]  # in the order of evaluation; empty: it passes
    warnings: tuple[Because, ...]  # what the policy only wants said
    gates: tuple[GateVerdict, ...]
    srm_p: float | None
    eta: float | None  # seconds until it may pass: the latest of its reasons'; None: nobody can say
    p_values: Mapping[str, float]  # the smallest so far, for the next look

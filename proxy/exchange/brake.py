"""When an agent's fine-tune is to serve nobody until a person says so (STATISTICS.md G).

A breaker spares users a model that is down now; a brake ends the trial of one that has failed.

- A CUSUM over first attempts on the fine-tune.  What fails for the client's sake, for ours, or because the
  client left, is not counted at all: it says nothing about the model.
- A failure rate is normal up to twice the baseline's: over its last thousand first attempts, or over its
  last dozen or so where that is more, rescues included.  So what takes both models down trips nothing.
- `per_minute` failures of a bucket count, on either side: one looping client is no outage, and hides none.

Plain state over a clock that is passed in.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

import orjson

from proxy.exchange.classify import BREAKING
from proxy.experiment.cusum import Cusum, rates, threshold
from proxy.policy.snapshot import AgentPolicy, BrakePolicy
from proxy.words import Brake, Failure

log: Final = logging.getLogger("splitlane.exchange")

# A first attempt that ended so has failed its user, and the model or its upstream is why.
BRAKING: Final = BREAKING | {Failure.TOTAL_TIMEOUT, Failure.EMPTY}
# At twice so many of the baseline's first attempts both counts are halved.
MEMORY: Final = 1000
# Below so many of them a failure is not yet a rate.
LEAST: Final = 50.0
# The latest of the baseline's attempts counts for a share of one in so many: an outage shows after two or three.
RECENT: Final = 16
# A baseline that fails so often has an outage: what is normal is not learnt from that, and now nothing is evidence.
OUTAGE: Final = 0.5
# Less than one failure in some hundred calls ago is none.
_NONE: Final = 0.001


class FailureLimit:
    """At most so many failures a minute of one bucket are let through."""

    __slots__ = ("_counted", "_minute")

    def __init__(self) -> None:
        self._minute = -1
        self._counted: dict[int, int] = {}  # by bucket; -1: requests without one

    def admits(self, bucket: int, now: float, per_minute: int) -> bool:
        """Whether a failure at loop time `now` counts."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._counted.clear()
        count = self._counted.get(bucket, 0)
        if count >= per_minute:
            return False
        self._counted[bucket] = count + 1
        return True


class BrakeState:
    """One agent's evidence: against its fine-tune, and of what is normal."""

    def __init__(self, agent: AgentPolicy) -> None:
        self.agent = agent.name
        self.model = agent.finetuned.model
        self.upstream = agent.finetuned.upstream.name
        self.baseline_calls = 0.0
        self.baseline_failures = 0.0
        self.baseline_recent = 0.0  # a failure rate
        self.cusum = Cusum()
        # What the total is made of, since it was last nothing.
        self.since = 0.0  # loop time
        self.calls = 0
        self.reasons: dict[str, int] = {}
        self._limit = FailureLimit()
        self._baseline_limit = FailureLimit()

    def finetuned(self, failure: Failure | None, bucket: int, now: float, policy: BrakePolicy) -> bool:
        """Count a first attempt on the fine-tune; whether that is enough to trip.

        A success while `cusum.total` is 0 changes nothing.
        """
        if failure is not None and failure not in BRAKING:
            return False
        if not policy.enabled or (failure is not None and not self._limit.admits(bucket, now, policy.per_minute)):
            return False
        if not self.cusum.total:
            self.since = now
            self.calls = 0
            self.reasons = {}
        self.calls += 1
        if failure is not None:
            self.reasons[failure.value] = self.reasons.get(failure.value, 0) + 1
        p0, p1 = self.rates(policy)
        return self.cusum.add(failure is not None, p0, p1) >= threshold(policy.odds)

    def baseline(self, failure: Failure | None, bucket: int, now: float, policy: BrakePolicy) -> None:
        """Count a first attempt on the baseline."""
        if failure is None:
            self.baseline_answered()
        elif failure in BRAKING and self._baseline_limit.admits(bucket, now, policy.per_minute):
            self._recently(1.0)
            if self.baseline_recent < OUTAGE:
                self.baseline_calls += 1.0
                self.baseline_failures += 1.0
                self._forget()

    def baseline_answered(self) -> None:
        """Count a first attempt on the baseline that succeeded."""
        self.baseline_calls += 1.0
        if self.baseline_recent:
            self._recently(0.0)
        self._forget()

    def rescued(self, failure: Failure | None, bucket: int, now: float, policy: BrakePolicy) -> None:
        """The baseline was asked for what the fine-tune had failed to answer."""
        if failure is None:
            self._recently(0.0)
        elif failure in BRAKING and self._baseline_limit.admits(bucket, now, policy.per_minute):
            self._recently(1.0)

    def rates(self, policy: BrakePolicy) -> tuple[float, float]:
        """The failure rates that are normal, and an outage's."""
        usual = self.baseline_failures / max(self.baseline_calls, LEAST)
        return rates(max(usual, self.baseline_recent), 1.0, policy.floor)

    def evidence(self, now: float, policy: BrakePolicy) -> str:
        """What the total is made of, as a JSON object."""
        p0, p1 = self.rates(policy)
        return orjson.dumps(
            {
                "model": self.model,
                "upstream": self.upstream,
                "failures": sum(self.reasons.values()),
                "calls": self.calls,
                "seconds": round(now - self.since, 3),
                "reasons": self.reasons,
                "normal_rate": round(p0, 5),
                "outage_rate": round(p1, 5),
                "baseline_calls": round(self.baseline_calls),
                "baseline_failures": round(self.baseline_failures),
                "baseline_recent_rate": round(self.baseline_recent, 5),
                "total": round(self.cusum.total, 3),
                "threshold": round(threshold(policy.odds), 3),
            }
        ).decode()

    def release(self) -> None:
        """Begin again: what there was against the fine-tune has been looked at."""
        self.cusum.total = 0.0

    def _forget(self) -> None:
        if self.baseline_calls >= 2 * MEMORY:
            self.baseline_calls /= 2
            self.baseline_failures /= 2

    def _recently(self, failed: float) -> None:
        rate = self.baseline_recent + (failed - self.baseline_recent) / RECENT
        self.baseline_recent = rate if rate >= _NONE else 0.0


class Brakes:
    """The brakes of all agents; evidence survives reloads, and what is in force survives whoever remembers it."""

    def __init__(self) -> None:
        self.tripped: dict[str, Brake] = {}  # in force, by agent
        self.trips: defaultdict[str, int] = defaultdict(int)  # by agent; tripped here
        self.on_trip: Callable[[Brake], None] | None = None
        self._states: dict[str, BrakeState] = {}

    def of(self, agent: AgentPolicy) -> BrakeState:
        """The evidence of an agent."""
        state = self._states.get(agent.name)
        if state is None:
            state = self._states[agent.name] = BrakeState(agent)
        return state

    def keep(self, agents: Collection[AgentPolicy]) -> None:
        """These are the policy's agents from now on: evidence of others, and against other models, is forgotten."""
        targets = {agent.name: (agent.finetuned.upstream.name, agent.finetuned.model) for agent in agents}
        self._states = {
            name: state for name, state in self._states.items() if targets.get(name) == (state.upstream, state.model)
        }
        for name in [name for name in self.trips if name not in targets]:
            del self.trips[name]

    def trip(self, state: BrakeState, id: str, now: float, policy: BrakePolicy) -> None:  # noqa: A002 the brake's
        """Stop the agent's fine-tune, at loop time `now`."""
        name = state.agent
        if name in self.tripped or self._states.get(name) is not state:
            return  # stopped already, or another policy's
        brake = Brake(id, name, time.time(), state.evidence(now, policy))
        self.tripped[name] = brake
        self.trips[name] += 1
        log.error("brake of %s: %s serves nobody until a person clears it: %s", name, state.model, brake.evidence)
        if self.on_trip is not None:
            self.on_trip(brake)

    def hold(self, brakes: dict[str, Brake]) -> None:
        """These are in force from now on, and no others."""
        gone = [name for name in self.tripped if name not in brakes]
        self.tripped = brakes
        for name in gone:
            if (state := self._states.get(name)) is not None:
                state.release()

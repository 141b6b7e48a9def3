"""Admission by money: reserve at admission, settle at the end, and what a spent budget means.

Laws: a request is admitted while spent + reserved < limit, so that a window ends at most one request above its
limit as long as no request costs more than was reserved for it; limits come from the policy that the request
took, what is spent and reserved belongs to the process; a scope is counted while it has a limit, its hour and
its day both; nothing here waits.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from proxy.budget.reservation import Reservation, Typical, expected_completion, expected_prompt
from proxy.budget.windows import DAY, HOUR, NANO, Window, Windows
from proxy.policy.snapshot import AgentPolicy, BudgetPolicy, Policy, Price, ShadowPolicy
from proxy.wire.body import Body
from proxy.wire.errors import ErrorAnswer, failure_answer
from proxy.words import OF_SHADOW, Failure, Usage

log: Final = logging.getLogger("splitlane.budget")

ALL: Final = "all"  # the scope of all agents together; no agent may be called so
# The scope of the health probes' own day; no agent may be called so.
PROBES: Final = "/probes"
# The share of a budget that is left to requests: nothing is copied that would take more than the rest.
KEPT_FROM_COPIES: Final = 0.2

_HAPPENS: Final = {
    "baseline": "the baseline serves fine-tuned traffic",
    "reject": "requests are answered 402",
    "warn": "nothing else happens",
}


class BudgetSpent(Exception):  # noqa: N818 it is an answer, not an error
    """A spent budget rejects the request."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class BudgetStatus(NamedTuple):
    """One limit and its window now; US dollars."""

    scope: str  # an agent, or `all`
    window: str  # hour | day
    limit: float
    spent: float  # here and by other processes
    reserved: float  # here
    resets_at: int  # Unix time
    on_exceeded: str


class BudgetExceeded(NamedTuple):
    """A limit that was reached."""

    scope: str  # an agent, or `all`
    window: str  # hour | day
    limit: float  # US dollars
    resets_at: int  # Unix time
    action: str
    meaning: str  # what happens until then


@dataclass(frozen=True, slots=True)
class _Limit:
    """What may be spent in one window."""

    scope: str
    windows: Windows
    window: Window
    dollars: float
    action: str


@dataclass(frozen=True, slots=True)
class _Limits:
    """All that holds for an agent's requests until a window turns."""

    agent: AgentPolicy
    typical: Typical
    budget: BudgetPolicy  # of all agents together
    turns: int
    windows: list[Window]
    limits: list[_Limit]


class Budgets:
    """What this process's requests have spent and reserved, and what other processes have spent."""

    def __init__(self) -> None:
        # Where what is spent is known after this process's end: process (nowhere) | sqlite | postgresql (and shared).
        self.kept_in = "process"
        self.on_exceeded: Callable[[BudgetExceeded], None] | None = None  # is told once per window
        self.exceeded: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # requests by scope, window, action
        self._hours = Windows("hour", HOUR)
        self._days = Windows("day", DAY)
        self._typical: dict[str, Typical] = {}  # by agent
        self._limits: dict[str, _Limits] = {}  # by agent

    def admit(self, policy: Policy, agent: AgentPolicy, body: Body, time: float, *, finetuned: bool) -> Reservation:
        """Reserve what a request that came in at Unix time `time` is going to cost.

        Raises BudgetSpent.  `finetuned`: it is for the fine-tune; with `to_baseline` it no longer is.
        """
        found = self._limits_of(policy, agent, time)
        over = [limit for limit in found.limits if limit.window.reaches(limit.dollars)]
        to_baseline = bool(over) and self._meet(over, time, finetuned=finetuned)
        completion = expected_completion(body, agent, found.typical)
        held = Reservation(found.typical, found.windows, expected_prompt(body), completion, to_baseline=to_baseline)
        target = agent.finetuned if finetuned and not to_baseline else agent.baseline
        held.hold(target.price, 0.0)
        return held

    def admit_copy(
        self, policy: Policy, agent: AgentPolicy, shadow: ShadowPolicy, body: Body, time: float
    ) -> Reservation | None:
        """Reserve what a copy for the fine-tune, made at Unix time `time`, is going to cost; None: no money for it.

        It must fit into what is left of the shadow's own day, and into `KEPT_FROM_COPIES` less than is left of
        every budget: no request meets a spent budget for what copies have reserved.
        """
        completion = expected_completion(body, agent, self._typical_of(agent))
        usage = Usage(expected_prompt(body), completion)
        own = self._days.of(agent.name + OF_SHADOW, time)
        return self._admit_aside(policy, agent, agent.finetuned.price, usage, own, shadow.daily_usd, time)

    def admit_probe(
        self, policy: Policy, agent: AgentPolicy, price: Price, usage: Usage, daily_usd: float, time: float
    ) -> Reservation | None:
        """Reserve what a probe of one of an agent's models costs at most; None: no money for it.

        The same holds as for a copy, with the `daily_usd` of all probes.
        """
        own = self._days.of(PROBES, time)
        return self._admit_aside(policy, agent, price, usage, own, daily_usd, time)

    def _admit_aside(
        self,
        policy: Policy,
        agent: AgentPolicy,
        price: Price | None,
        usage: Usage,
        own: Window,
        daily_usd: float,
        time: float,
    ) -> Reservation | None:
        """Reserve for what no client has asked for."""
        cost = 0.0 if price is None else price.of(usage)
        found = self._limits_of(policy, agent, time)
        fits = not own.reaches(daily_usd - cost) and not any(
            limit.window.reaches(limit.dollars * (1 - KEPT_FROM_COPIES) - cost) for limit in found.limits
        )
        if not fits:
            return None
        held = Reservation(found.typical, [own, *found.windows], usage.prompt, usage.completion, to_baseline=False)
        held.hold(price, 0.0)
        return held

    def settle(self, held: Reservation, cost: float, usage: Usage | None) -> None:
        """The request is over, and has cost so many US dollars; `usage` of its answer, where that was sound."""
        held.close(cost)
        if usage is not None:
            held.typical.learn(usage.completion)

    def others(self, spent: Mapping[tuple[int, str], float]) -> None:
        """What other processes, earlier lives of this one included, have spent in the current UTC day.

        US dollars by Unix hour and agent, or agent and `OF_SHADOW`; all of it each time, not what is new.
        """
        hours: defaultdict[tuple[int, str], float] = defaultdict(float)
        days: defaultdict[tuple[int, str], float] = defaultdict(float)
        for (hour, agent), cost in spent.items():
            day = hour * HOUR // DAY
            scopes = (ALL, agent.removesuffix(OF_SHADOW), agent) if agent.endswith(OF_SHADOW) else (ALL, agent)
            for scope in scopes:
                hours[hour, scope] += cost
                days[day, scope] += cost
        self._hours.set_others(hours)
        self._days.set_others(days)

    def keep(self, agents: Container[str]) -> None:
        """These are the policy's agents from now on; windows of others go with their time."""
        self._limits.clear()
        self._typical = {agent: typical for agent, typical in self._typical.items() if agent in agents}
        for key in [key for key in self.exceeded if key[0] not in agents and key[0] != ALL]:
            del self.exceeded[key]

    def status(self, policy: Policy, now: float) -> Iterator[BudgetStatus]:
        """Every limit of a policy at Unix time `now`."""
        for scope, budget in ((ALL, policy.budget), *((each.name, each.budget) for each in policy.agents.values())):
            for kind, limit in ((self._hours, budget.hourly_usd), (self._days, budget.daily_usd)):
                if limit is not None:
                    window = kind.of(scope, now)
                    spent, reserved = window.spent + window.others, window.reserved / NANO
                    yield BudgetStatus(scope, kind.name, limit, spent, reserved, kind.end(now), budget.on_exceeded)

    def _limits_of(self, policy: Policy, agent: AgentPolicy, time: float) -> _Limits:
        hours, days = self._hours, self._days
        found = self._limits.get(agent.name)
        turns = hours.turn_to(time) + days.turn_to(time)
        if found is None or found.turns != turns or found.agent is not agent or found.budget is not policy.budget:
            found = self._limits[agent.name] = _Limits(agent, self._typical_of(agent), policy.budget, turns, [], [])
            for scope, budget in ((ALL, policy.budget), (agent.name, agent.budget)):
                if budget.is_limited:
                    for kind, dollars in ((hours, budget.hourly_usd), (days, budget.daily_usd)):
                        window = kind.of(scope, time)
                        found.windows.append(window)
                        if dollars is not None:
                            found.limits.append(_Limit(scope, kind, window, dollars, budget.on_exceeded))
        return found

    def _typical_of(self, agent: AgentPolicy) -> Typical:
        typical = self._typical.get(agent.name)
        if typical is None:
            typical = self._typical[agent.name] = Typical()
        return typical

    def _meet(self, over: list[_Limit], time: float, *, finetuned: bool) -> bool:
        """What the strictest of the exceeded limits wants: whether the request is taken from the fine-tune.

        Raises BudgetSpent.
        """
        wanted = {limit.action for limit in over}
        # What is for the baseline anyway goes on.
        action = "reject" if "reject" in wanted else "baseline" if "baseline" in wanted and finetuned else "warn"
        for limit in over:
            self._tell(limit, time)
            if limit.action == action:
                self.exceeded[limit.scope, limit.windows.name, action] += 1
        if action == "reject":
            raise BudgetSpent(_rejection([limit for limit in over if limit.action == action], time))
        return action == "baseline"

    def _tell(self, limit: _Limit, time: float) -> None:
        """Log it, once in a window."""
        window, action = limit.window, limit.action
        if window.told == action:
            return
        window.told = action
        name, resets_at, happens = limit.windows.name, limit.windows.end(time), _HAPPENS[action]
        log.warning(
            "budget of %s, %s: %.6g of %g US dollars spent, %.6g reserved; until %s %s",
            limit.scope, name, window.spent + window.others, limit.dollars, window.reserved / NANO, _utc(resets_at),
            happens,
        )  # fmt: skip
        if self.on_exceeded is not None:
            self.on_exceeded(BudgetExceeded(limit.scope, name, limit.dollars, resets_at, action, happens))


def _rejection(over: list[_Limit], time: float) -> ErrorAnswer:
    """The answer that says when it is worth trying again: once the last of the windows is over."""
    last = max(over, key=lambda limit: limit.windows.end(time))
    resets_at = last.windows.end(time)
    whose = "" if last.scope == ALL else f" of agent {last.scope}"
    period = "hourly" if last.windows.name == "hour" else "daily"
    return failure_answer(Failure.BUDGET)._replace(
        message=f"the {period} budget{whose} is spent; it resets at {_utc(resets_at)}",
        retry_after=math.ceil(resets_at - time),
    )


def _utc(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""ACCEPTANCE 41: whatever comes in which order, what is reserved is the sum over what is in flight.

Hypothesis plays requests that are admitted, fall back, and end in any order and across the edges of windows,
while the policy and what other processes have spent change; beside it stands a list of what is in flight.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from proxy.budget.budgets import ALL, Budgets, BudgetSpent
from proxy.budget.reservation import Reservation
from proxy.budget.windows import DAY, HOUR, NANO
from proxy.policy.snapshot import AgentPolicy, Policy, Target
from proxy.wire.body import Body
from proxy.words import Usage
from tests.support.lane import BASELINE, FINETUNED, policy_of

START = 1_800_000_000.0 // DAY * DAY + 23 * HOUR  # an hour before midnight: hour and day end early
AGENTS = ("qa_agent", "other_agent")
LIMIT = 2.0
PRICES = {FINETUNED: {"input": 0.3, "output": 0.7}, BASELINE: {"input": 0.1, "output": 0.1}}


def policy_with(of_all: dict[str, Any], own: dict[str, Any]) -> Policy:
    agents: dict[str, Any] = {name: {"fine_tuned": FINETUNED, "fallback": BASELINE} for name in AGENTS}
    agents["qa_agent"]["budgets"] = own
    return policy_of("http://127.0.0.1:1", budgets=of_all, agents=agents, prices=PRICES)


POLICIES = [
    policy_with({"hourly_usd": LIMIT, "daily_usd": 2 * LIMIT, "on_exceeded": action}, own)
    for action in ("warn", "baseline", "reject")
    for own in ({}, {"hourly_usd": LIMIT / 2}, {"daily_usd": LIMIT, "on_exceeded": "reject"})
]


@dataclass(eq=False)
class Flight:
    """One request in flight."""

    held: Reservation
    agent: AgentPolicy
    time: float
    amount: int  # nano-dollars that it holds

    def scopes(self) -> tuple[str, ...]:
        return (ALL, self.agent.name) if self.agent.budget.is_limited else (ALL,)


def nano(target: Target, held: Reservation, billed: float) -> int:
    assert target.price is not None
    amount = (billed + target.price.of(Usage(held.prompt, held.completion))) * NANO
    assert abs(held.amount - amount) <= 1
    return held.amount


class InFlight(RuleBasedStateMachine):
    flights = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.budgets = Budgets()
        self.policy = POLICIES[0]
        self.now = START
        self.flying: list[Flight] = []
        self.spent: dict[tuple[str, int], float] = {}  # by scope and hour

    @rule(seconds=st.sampled_from([0.5, 600.0, 1800.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(policy=st.sampled_from(POLICIES))
    def policy_is_replaced(self, policy: Policy) -> None:
        self.policy = policy
        self.budgets.keep(set(AGENTS))

    @rule(agent=st.sampled_from(AGENTS), dollars=st.floats(0, LIMIT))
    def another_process_spends(self, agent: str, dollars: float) -> None:
        self.budgets.others({(int(self.now // HOUR), agent): dollars})

    @rule(
        target=flights,
        name=st.sampled_from(AGENTS),
        max_tokens=st.integers(1, 900_000),
        late=st.sampled_from([0.0, 30.0]),
        finetuned=st.booleans(),
    )
    def request_comes(self, name: str, max_tokens: int, late: float, finetuned: bool) -> Any:
        agent, time = self.policy.agents[name.encode()], self.now - late
        body = Body(b'{"model":"m","max_tokens":%d}' % max_tokens)
        try:
            held = self.budgets.admit(self.policy, agent, body, time, finetuned=finetuned)
        except BudgetSpent:
            return multiple()
        target = agent.finetuned if finetuned and not held.to_baseline else agent.baseline
        flight = Flight(held, agent, time, nano(target, held, 0.0))
        self.flying.append(flight)
        return flight

    @rule(flight=flights, billed=st.floats(0, 0.2))
    def fine_tune_fails(self, flight: Flight, billed: float) -> None:
        flight.held.hold(flight.agent.baseline.price, billed)
        flight.amount = nano(flight.agent.baseline, flight.held, billed)

    @rule(flight=consumes(flights), cost=st.just(0.0) | st.floats(0, 0.5))
    def request_ends(self, flight: Flight, cost: float) -> None:
        self.budgets.settle(flight.held, cost, None)
        self.flying.remove(flight)
        for scope in flight.scopes():
            key = scope, int(flight.time // HOUR)
            self.spent[key] = self.spent.get(key, 0.0) + cost

    @invariant()
    def reserved_is_the_sum_of_what_is_in_flight(self) -> None:
        for scope, seconds, reserved, _ in self.windows():
            assert reserved == sum(
                flight.amount
                for flight in self.flying
                if scope in flight.scopes() and flight.time // seconds == self.now // seconds
            )

    @invariant()
    def spent_is_the_sum_of_what_has_ended(self) -> None:
        for scope, seconds, _, spent in self.windows():
            ended = sum(
                cost
                for (whose, hour), cost in self.spent.items()
                if whose == scope and hour * HOUR // seconds == self.now // seconds
            )
            assert abs(spent - ended) < 1e-9

    def teardown(self) -> None:
        for flight in self.flying:
            self.budgets.settle(flight.held, 0.0, None)
        assert {reserved for _, _, reserved, _ in self.windows()} == {0}

    def windows(self) -> list[tuple[str, int, int, float]]:
        """The open windows: scope, length, nano-dollars reserved and dollars spent."""
        found = []
        for scope in (ALL, "qa_agent"):
            for kind, seconds in ((self.budgets._hours, HOUR), (self.budgets._days, DAY)):
                window = kind.of(scope, self.now)
                found.append((scope, seconds, window.reserved, window.spent))
        return found


TestInFlight = InFlight.TestCase
TestInFlight.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


REJECTING = policy_with({"daily_usd": LIMIT, "on_exceeded": "reject"}, {})


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 1_000_000), st.floats(0, 1), st.integers(0, 5)),  # tokens, share of them used, ends
        min_size=1,
        max_size=60,
    )
)
def test_limit_is_passed_by_one_request_at_most(requests: list[tuple[int, float, int]]) -> None:
    budgets = Budgets()
    agent = REJECTING.agents[b"qa_agent"]
    flying: list[tuple[Reservation, float]] = []
    dearest = 0.0
    for tokens, share, ends in requests:
        with suppress(BudgetSpent):
            body = Body(b'{"model":"m","max_tokens":%d}' % tokens)
            held = budgets.admit(REJECTING, agent, body, START, finetuned=True)
            expected = held.amount / NANO
            flying.append((held, expected * share))
            dearest = max(dearest, expected)
        for _ in range(min(ends, len(flying))):
            held, cost = flying.pop()
            budgets.settle(held, cost, None)
    for held, cost in flying:
        budgets.settle(held, cost, None)
    (status,) = budgets.status(REJECTING, START)
    assert status.spent <= LIMIT + dearest + 1e-6
    assert status.reserved == 0

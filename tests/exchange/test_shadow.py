"""Whatever comes in which order: what copies hold is the sum over those in flight, and each ends once.

Hypothesis plays requests that are answered, copies that are cut at any turn of the loop, and reloads, against an
upstream that answers, fails and hangs.  What becomes of one copy is tested over sockets, in tests/integration.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.budget.budgets import Budgets
from proxy.exchange.call import CallState
from proxy.exchange.intake import Buffered
from proxy.exchange.shadow import REASONS, AgentShadow, Shadow
from proxy.outbox import Outbox
from proxy.policy.snapshot import Policy
from proxy.wire.body import Body
from proxy.words import Assignment, Decision, Failure, Record, Variant
from tests.integration.asking import ANSWER, CHAT, chat_body
from tests.support.budgets import PRICES
from tests.support.lane import policy_of
from tests.support.raw_upstream import Action, Close, RawUpstream, Read, Reset, Send, Stall, response

ASSIGNED = Decision(Variant.BASELINE, Assignment.BASELINE, 7794)
CANDIDATES: list[list[Action]] = [
    [Read(), Send(ANSWER)],
    [Read(), Stall()],
    [Read(), Reset()],
    [Read(), Send(response(b"{}", 500))],
    [Read(), Send(ANSWER), Close()],
]
MAX_IN_FLIGHT = 3

steps = st.lists(
    st.one_of(
        st.tuples(st.just("answered"), st.integers(1, 12), st.booleans()),
        st.tuples(st.just("turns"), st.integers(0, 12), st.just(False)),
        st.tuples(st.just("rest"), st.integers(1, 4), st.just(False)),
        st.tuples(st.just("no room"), st.just(0), st.just(False)),
        st.tuples(st.just("reload"), st.integers(0, 1), st.just(False)),
    ),
    max_size=40,
)


class Bench:
    """A shadow, and what it is offered."""

    def __init__(self, policies: list[Policy]) -> None:
        loop = asyncio.get_running_loop()
        self.policies = policies
        self.policy = policies[0]
        self.budgets = Budgets()
        self.buffered = Buffered()
        self.shadow = Shadow(self.policy, loop, Outbox(loop), self.budgets, self.buffered)
        self.records: list[Record] = []
        self.shadow.sinks = (self.records.extend,)
        self.seen: list[AgentShadow] = []
        self.note()

    async def play(self, what: str, number: int, tools: bool) -> None:
        match what:
            case "answered":
                self.answered(number, tools=tools)
            case "turns":
                for _ in range(number):
                    await asyncio.sleep(0)
            case "rest":
                await asyncio.sleep(number / 1000)
            case "no room":
                assert self.buffered.give_way is not None
                self.buffered.give_way()
                assert (self.buffered.total, self.buffered.lent) == (0, 0)
            case _:
                self.policy = self.policies[number]
                self.shadow.keep(self.policy)
        self.note()
        self.check()

    def answered(self, tokens: int, *, tools: bool) -> None:
        call = CallState(self.policy, client_of(CHAT.encode()))
        call.agent = agent = self.policy.agents[b"qa_agent"]
        call.decision = ASSIGNED
        call.body = Body(chat_body(max_tokens=tokens, **({"tools": []} if tools else {})))
        if agent.shadow is not None:
            self.shadow.offer(call, agent, agent.shadow, 0)

    def note(self) -> None:
        self.seen += [state for state in self.shadow.agents.values() if state not in self.seen]

    def check(self) -> None:
        copies = self.shadow._copies
        assert self.buffered.total == self.buffered.lent == sum(copy.lent for copy in copies)
        assert sum(state.in_flight for state in self.seen) == len(copies) <= MAX_IN_FLIGHT
        assert self.reserved() == sum(copy.held.amount for copy in copies)
        for state in self.seen:
            assert state.drawn == sum(state.outcomes.values()) + sum(state.dropped.values()) + state.in_flight
            assert state.dropped.keys() <= set(REASONS)
            assert state.outcomes.keys() <= {"success", *Failure}
        assert len(self.records) == sum(sum(state.outcomes.values()) for state in self.seen)

    def reserved(self) -> int:
        return sum(
            window.reserved
            for scopes in self.budgets._days._open.values()
            for scope, window in scopes.items()
            if scope == "qa_agent/shadow"
        )


def client_of(target: bytes) -> Any:
    """All that a call wants of its client."""
    return SimpleNamespace(target=target)


@settings(max_examples=30, deadline=None)
@given(steps, st.lists(st.integers(0, len(CANDIDATES) - 1), min_size=1, max_size=6))
def test_what_copies_hold_is_the_sum_over_those_in_flight(story: list[tuple[str, int, bool]], fates: list[int]) -> None:
    async def play() -> None:
        async with RawUpstream(lambda number: CANDIDATES[fates[number % len(fates)]]) as upstream:
            shadow = {"percentage": 100, "max_in_flight": MAX_IN_FLIGHT, "daily_usd": 20}
            policies = [
                policy_of(upstream.url, agents={"qa_agent": own}, prices=PRICES, budgets={"daily_usd": 1000})
                for own in ({"shadow": shadow}, {})
            ]
            bench = Bench(policies)
            for step in story:
                await bench.play(*step)
            await bench.shadow.stop()
            bench.check()
            assert not bench.shadow._copies
            assert bench.shadow.draining
            spent = sum(record.cost for record in bench.records)
            assert abs(sum(state.cost for state in bench.seen) - spent) < 1e-9

    asyncio.run(play())

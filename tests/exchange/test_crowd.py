"""Who is let in when there is a crowd: agents get equal parts, and a loop that stays late lets nobody in."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.call import CallState, Refusal
from proxy.exchange.client import Client
from proxy.exchange.crowd import LATE_LOOKS, Crowd
from proxy.policy.snapshot import Policy
from tests.support.lane import policy_of

AGENT = {"fine_tuned": "ft:m", "fallback": "m"}
SEVERAL = policy_of("http://127.0.0.1:1", agents=dict.fromkeys("abcde", AGENT), limits={"max_in_flight": 100})
ALONE = policy_of("http://127.0.0.1:1", limits={"max_in_flight": 100})


class Proxy:
    """Admits and lets go as the exchange does."""

    def __init__(self, policy: Policy = SEVERAL) -> None:
        self.policy = policy
        self.crowd = Crowd(policy.limits)
        self.calls: list[CallState] = []

    def let_in(self, agent: str) -> bool:
        call = CallState(self.policy, cast("Client", _NoClient()))
        call.agent_name = agent
        if len(self.calls) >= self.crowd.begins:
            try:
                self.crowd.admit(call, len(self.calls))
            except Refusal:
                return False
        self.calls.append(call)
        return True

    def end(self, number: int) -> None:
        call = self.calls.pop(number)
        if call.crowding:
            self.crowd.left(call)

    def turn_over(self, agents: Iterable[str], times: int = 400) -> Counter[str]:
        """Requests end, oldest first, while all of `agents` press; how many each holds then."""
        for _ in range(times):
            for agent in agents:
                for _ in range(3):
                    self.let_in(agent)
            self.end(0)
        return Counter(call.agent_name for call in self.calls)


class _NoClient:
    target = b"/"


def test_agent_alone_may_hold_its_share_and_others_find_room_at_once() -> None:
    proxy = Proxy()
    assert proxy.turn_over("a") == {"a": 89}  # 90, one of which has just ended
    assert [proxy.let_in("b") for _ in range(5)] == [True] * 5


def test_agents_that_press_get_equal_parts_and_leave_room() -> None:
    held = Proxy().turn_over("abc")
    assert all(22 <= each <= 40 for each in held.values()), held
    assert 92 <= sum(held.values()) <= 97


def test_agents_that_press_do_not_keep_out_who_asks_for_little() -> None:
    proxy = Proxy()
    proxy.turn_over("abcd")
    assert proxy.let_in("e")


@pytest.mark.parametrize(("policy", "agent", "most"), [(ALONE, "qa_agent", 100), (ALONE, "other", 90)])
def test_only_agent_of_a_policy_may_hold_everything_and_strangers_may_not(
    policy: Policy, agent: str, most: int
) -> None:
    proxy = Proxy(policy)
    assert proxy.turn_over([agent]) == {agent: most - 1}


def test_share_of_all_is_no_limit() -> None:
    whole = replace(SEVERAL, limits=replace(SEVERAL.limits, agent_share=100.0))
    assert Proxy(whole).turn_over("a") == {"a": 99}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), max_size=600))
def test_never_more_than_the_limit_and_all_is_forgotten(steps: list[tuple[str, int]]) -> None:
    """A number over what there is lets somebody in, any other ends that request."""
    proxy = Proxy()
    for agent, number in steps:
        if number < len(proxy.calls) and number % 3 == 0:
            proxy.end(number)
        else:
            proxy.let_in(agent)
        assert len(proxy.calls) <= 100
    while proxy.calls:
        proxy.end(0)
    assert proxy.crowd.held == {}


def test_loop_that_stays_late_lets_nobody_in_until_it_is_in_time() -> None:
    proxy = Proxy()
    for _ in range(LATE_LOOKS):
        assert proxy.let_in("a")
        proxy.crowd.look(1.1)
    assert not proxy.let_in("a")
    assert not proxy.let_in("b")
    proxy.crowd.follow(SEVERAL.limits)  # a reload meanwhile
    assert not proxy.let_in("b")
    proxy.crowd.look(0.9)
    assert proxy.let_in("a")
    assert proxy.crowd.refused == {"max_in_flight": 0, "agent_share": 0, "max_lag": 3}


def test_loop_that_is_late_now_and_then_lets_everybody_in() -> None:
    proxy = Proxy()
    for _ in range(20):
        for lag in (5.0,) * (LATE_LOOKS - 1) + (0.0,):
            proxy.crowd.look(lag)
            assert proxy.let_in("a") or len(proxy.calls) >= 89


def test_other_limits_hold_from_a_reload_on() -> None:
    proxy = Proxy()
    proxy.turn_over("a", 5)
    smaller: Any = replace(SEVERAL, limits=replace(SEVERAL.limits, max_in_flight=10))
    proxy.policy = smaller
    proxy.crowd.follow(smaller.limits)
    assert proxy.crowd.begins == 5
    assert not proxy.let_in("b")

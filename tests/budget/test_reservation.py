"""What one request holds, and for how much."""

from typing import Any

import orjson
import pytest

from proxy.budget.reservation import MOST_COMPLETION, Reservation, Typical, expected_completion, expected_prompt
from proxy.budget.windows import NANO, Window
from proxy.policy.snapshot import AgentPolicy, Price
from proxy.wire.body import PARSE_UP_TO, Body
from tests.support.lane import policy_of

TYPICAL = 321
USUAL = Typical()
USUAL.completion = TYPICAL
DOLLAR_A_TOKEN = Price(0.0, 1_000_000.0, 0.0)


def agent(**changes: Any) -> AgentPolicy:
    return policy_of("http://127.0.0.1:1", agents={"qa_agent": changes}).agents[b"qa_agent"]


def body(**members: Any) -> Body:
    return Body(orjson.dumps({"model": "m", "messages": [], **members}))


@pytest.mark.parametrize(
    ("members", "completion"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_completion_tokens": 8, "max_tokens": 7}, 8),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"n": 3}, TYPICAL),  # what was measured are whole answers, all choices
        ({}, TYPICAL),
    ],
)
def test_answer_is_as_long_as_the_body_allows_else_as_usual(members: dict[str, Any], completion: int) -> None:
    assert expected_completion(body(**members), agent(), USUAL) == completion


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "7", None, [7], {}])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
def test_member_that_is_no_number_of_tokens_is_ignored(name: str, value: Any) -> None:
    assert expected_completion(body(**{name: value}), agent(), USUAL) == TYPICAL


def test_agents_default_counts_where_the_client_sent_none() -> None:
    assert expected_completion(body(), agent(max_tokens=50), USUAL) == 50
    assert expected_completion(body(n=2), agent(max_tokens=50), USUAL) == 100
    assert expected_completion(body(max_tokens=7), agent(max_tokens=50), USUAL) == 7


@pytest.mark.parametrize("members", [{"max_tokens": 10**15}, {"max_tokens": 1000, "n": 10**12}])
def test_absurd_length_holds_no_more_than_the_longest_answer(members: dict[str, Any]) -> None:
    assert expected_completion(body(**members), agent(), USUAL) == MOST_COMPLETION


def test_prompt_is_a_token_for_four_bytes_of_the_body_long_ones_too() -> None:
    for size in (100, 2 * PARSE_UP_TO):
        long = body(messages=[{"role": "user", "content": "x" * size}], max_tokens=7)
        assert expected_prompt(long) == len(long.raw) // 4
        assert expected_completion(long, agent(), USUAL) == 7


def test_held_amount_is_tokens_times_price_and_replaces_the_one_before() -> None:
    windows = [Window(0.0), Window(0.0)]
    held = Reservation(Typical(), windows, 1_000, 2_000, to_baseline=False)
    held.hold(Price(0.5, 2.0, 0.1), 0.0)
    assert [window.reserved for window in windows] == [4_500_000] * 2  # nano-dollars
    held.hold(Price(0.0, 1.0, 0.0), 0.25)  # the fine-tune billed a quarter, and the baseline is asked
    assert [window.reserved for window in windows] == [252_000_000] * 2
    held.hold(None, 0.25)
    assert [window.reserved for window in windows] == [250_000_000] * 2
    assert all(window.spent == 0 for window in windows)


@pytest.mark.parametrize("cost", [0.0, 1.0, 99.0])
def test_closed_reservation_leaves_what_was_spent_and_nothing_else(cost: float) -> None:
    window = Window(0.0)
    held = Reservation(Typical(), [window], 0, 5, to_baseline=False)
    held.hold(DOLLAR_A_TOKEN, 0.0)
    assert window.reserved == 5 * NANO
    held.close(cost)
    assert (window.reserved, window.spent) == (0, cost)

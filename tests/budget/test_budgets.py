"""Who is admitted, whose windows are charged, and what a spent budget does."""

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.budget.budgets import Budgets, BudgetSpent
from proxy.budget.reservation import TYPICAL_COMPLETION, Reservation
from proxy.budget.windows import DAY, HOUR
from proxy.policy.snapshot import Policy
from proxy.wire.body import Body
from proxy.words import Usage
from tests.support.lane import BASELINE, FINETUNED, policy_of

NOON = datetime(2026, 10, 31, 12, tzinfo=UTC).timestamp()
UNIX_HOUR = int(NOON // HOUR)
DOLLAR = Body(b'{"model":"m","max_tokens":1000000}')  # … on the fine-tune, half of one on the baseline
PRICES = {FINETUNED: {"input": 0, "output": 1}, BASELINE: {"input": 0, "output": 0.5}}
TWO_AGENTS = {"other_agent": {"fine_tuned": FINETUNED, "fallback": BASELINE}}


def budgeted(
    budgets: dict[str, Any] | None = None, own: dict[str, Any] | None = None, prices: dict[str, Any] = PRICES
) -> Policy:
    """A policy with two agents; `own` budgets are those of `qa_agent`."""
    agents = {**TWO_AGENTS, "qa_agent": {"budgets": own or {}}}
    return policy_of("http://127.0.0.1:1", budgets=budgets or {}, prices=prices, agents=agents)


def admit(
    budgets: Budgets, policy: Policy, time: float = NOON, *, agent: str = "qa_agent", finetuned: bool = True
) -> Reservation:
    return budgets.admit(policy, policy.agents[agent.encode()], DOLLAR, time, finetuned=finetuned)


def spend(
    budgets: Budgets,
    policy: Policy,
    cost: float,
    time: float = NOON,
    *,
    agent: str = "qa_agent",
    finetuned: bool = True,
) -> None:
    budgets.settle(admit(budgets, policy, time, agent=agent, finetuned=finetuned), cost, None)


def state(budgets: Budgets, policy: Policy, time: float = NOON) -> dict[tuple[str, str], tuple[float, float]]:
    """Spent and reserved, by scope and window."""
    return {(each.scope, each.window): (each.spent, each.reserved) for each in budgets.status(policy, time)}


# --- the flag ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_all", "own", "flags"),
    [
        ({}, {}, (False, False)),
        ({"on_exceeded": "reject"}, {}, (False, False)),
        ({"hourly_usd": 1}, {}, (True, True)),
        ({"daily_usd": 1}, {}, (True, True)),
        ({}, {"daily_usd": 1}, (True, False)),
    ],
)
def test_agent_is_budgeted_where_a_limit_holds_for_it(
    of_all: dict[str, Any], own: dict[str, Any], flags: tuple[bool, bool]
) -> None:
    policy = budgeted(of_all, own)
    assert (policy.agents[b"qa_agent"].budgeted, policy.agents[b"other_agent"].budgeted) == flags


# --- admission --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["hourly_usd", "daily_usd"])
@pytest.mark.parametrize("scope", ["all", "own"])
def test_requests_are_admitted_while_spent_and_reserved_are_below_the_limit(window: str, scope: str) -> None:
    limit = {window: 3, "on_exceeded": "reject"}
    policy = budgeted(**{"budgets" if scope == "all" else "own": limit})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    held = [admit(budgets, policy) for _ in range(2)]
    with pytest.raises(BudgetSpent):
        admit(budgets, policy)
    budgets.settle(held[0], 0.0, None)  # cancelled
    admit(budgets, policy)
    with pytest.raises(BudgetSpent):
        admit(budgets, policy)


def test_rejected_request_holds_nothing() -> None:
    policy = budgeted({"daily_usd": 1, "on_exceeded": "reject"}, {"daily_usd": 9})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    with pytest.raises(BudgetSpent):
        admit(budgets, policy)
    assert state(budgets, policy) == {("all", "day"): (1, 0), ("qa_agent", "day"): (1, 0)}


def test_baseline_is_reserved_at_its_own_price() -> None:
    policy = budgeted({"daily_usd": 9})
    budgets = Budgets()
    admit(budgets, policy, finetuned=False)
    assert state(budgets, policy) == {("all", "day"): (0, 0.5)}


def test_model_without_a_price_reserves_nothing() -> None:
    policy = budgeted({"daily_usd": 9}, prices={})
    budgets = Budgets()
    admit(budgets, policy)
    assert state(budgets, policy) == {("all", "day"): (0, 0)}


def test_answers_of_unknown_length_are_expected_as_the_agents_last_ones() -> None:
    policy = budgeted({"daily_usd": 9})
    budgets = Budgets()
    endless = Body(b'{"model":"m"}')

    def expected(name: bytes) -> int:
        return budgets.admit(policy, policy.agents[name], endless, NOON, finetuned=True).completion

    assert expected(b"qa_agent") == TYPICAL_COMPLETION
    for _ in range(100):
        budgets.settle(admit(budgets, policy), 0.0, Usage(1, 40))
        budgets.settle(admit(budgets, policy), 0.0, None)  # a failed one tells nothing
    assert expected(b"qa_agent") == pytest.approx(40, abs=2)
    assert expected(b"other_agent") == TYPICAL_COMPLETION


# --- whose money ------------------------------------------------------------------------------------


def test_agents_budget_touches_no_other_agent() -> None:
    policy = budgeted(own={"daily_usd": 1, "on_exceeded": "reject"})
    budgets = Budgets()
    spend(budgets, policy, 5.0)
    with pytest.raises(BudgetSpent, match="of agent qa_agent"):
        admit(budgets, policy)
    admit(budgets, policy, agent="other_agent")


def test_budget_of_all_is_spent_by_all() -> None:
    policy = budgeted({"daily_usd": 2, "on_exceeded": "reject"})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    spend(budgets, policy, 1.0, agent="other_agent")
    for agent in ("qa_agent", "other_agent"):
        with pytest.raises(BudgetSpent):
            admit(budgets, policy, agent=agent)


def test_both_budgets_hold() -> None:
    policy = budgeted({"daily_usd": 9}, {"hourly_usd": 5})
    budgets = Budgets()
    spend(budgets, policy, 2.0)
    spend(budgets, policy, 1.0, agent="other_agent")
    assert state(budgets, policy) == {("all", "day"): (3, 0), ("qa_agent", "hour"): (2, 0)}


# --- time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "edge"), [("hourly_usd", NOON + HOUR), ("daily_usd", NOON + DAY / 2)])
def test_spent_budget_is_whole_again_after_the_edge(window: str, edge: float) -> None:
    policy = budgeted({window: 1, "on_exceeded": "reject"})
    budgets = Budgets()
    spend(budgets, policy, 1.0, edge - 2)
    with pytest.raises(BudgetSpent):
        admit(budgets, policy, edge - 0.01)
    admit(budgets, policy, edge)


def test_request_in_flight_across_the_edge_is_charged_to_the_hour_it_came_in() -> None:
    policy = budgeted({"hourly_usd": 9, "daily_usd": 9})
    budgets = Budgets()
    held = admit(budgets, policy, NOON + HOUR - 1)
    assert state(budgets, policy, NOON + HOUR) == {("all", "hour"): (0, 0), ("all", "day"): (0, 1)}
    budgets.settle(held, 0.75, None)
    assert state(budgets, policy, NOON + HOUR) == {("all", "hour"): (0, 0), ("all", "day"): (0.75, 0)}
    assert state(budgets, policy, NOON) == {("all", "hour"): (0.75, 0), ("all", "day"): (0.75, 0)}


def test_request_that_outlives_its_window_settles_all_the_same() -> None:
    policy = budgeted({"hourly_usd": 9})
    budgets = Budgets()
    held = admit(budgets, policy, NOON)
    for hours in range(1, 5):
        spend(budgets, policy, 1.0, NOON + hours * HOUR)
    budgets.settle(held, 1.0, None)
    assert state(budgets, policy, NOON + 4 * HOUR) == {("all", "hour"): (1, 0)}


@pytest.mark.parametrize(
    ("limits", "window", "resets_at"),
    [
        ({"hourly_usd": 1}, "hourly", "2026-10-31T13:00:00Z"),
        ({"daily_usd": 1}, "daily", "2026-11-01T00:00:00Z"),
        ({"hourly_usd": 1, "daily_usd": 1}, "daily", "2026-11-01T00:00:00Z"),
    ],
)
def test_rejection_says_when_the_last_of_the_spent_windows_is_over(
    limits: dict[str, Any], window: str, resets_at: str
) -> None:
    policy = budgeted({**limits, "on_exceeded": "reject"})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    with pytest.raises(BudgetSpent) as caught:
        admit(budgets, policy, NOON + 0.5)
    answer = caught.value.answer
    assert (answer.status, answer.kind, answer.code) == (402, "insufficient_quota", "budget")
    assert answer.message == f"the {window} budget is spent; it resets at {resets_at}"
    assert answer.retry_after == datetime.fromisoformat(resets_at).timestamp() - NOON


def test_time_to_wait_is_never_zero() -> None:
    policy = budgeted({"hourly_usd": 1, "on_exceeded": "reject"})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    with pytest.raises(BudgetSpent) as caught:
        admit(budgets, policy, NOON + HOUR - 0.001)
    assert caught.value.answer.retry_after == 1


# --- what happens then ------------------------------------------------------------------------------


def test_baseline_takes_the_fine_tunes_traffic_and_keeps_its_own() -> None:
    policy = budgeted({"daily_usd": 1, "on_exceeded": "baseline"})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    moved, own = admit(budgets, policy), admit(budgets, policy, finetuned=False)
    assert (moved.to_baseline, own.to_baseline) == (True, False)
    assert state(budgets, policy) == {("all", "day"): (1, 1)}  # half a dollar each
    budgets.settle(moved, 0.5, None)
    budgets.settle(own, 0.25, None)
    assert state(budgets, policy) == {("all", "day"): (1.75, 0)}
    assert budgets.exceeded == {("all", "day", "baseline"): 1}


def test_warning_lets_everything_go() -> None:
    policy = budgeted({"hourly_usd": 1, "daily_usd": 1, "on_exceeded": "warn"})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    assert not admit(budgets, policy).to_baseline
    assert not admit(budgets, policy, finetuned=False).to_baseline
    assert budgets.exceeded == {("all", "hour", "warn"): 2, ("all", "day", "warn"): 2}


@pytest.mark.parametrize(
    ("of_all", "own", "happens"),
    [
        ("warn", "baseline", ("qa_agent", "baseline")),
        ("baseline", "warn", ("all", "baseline")),
        ("reject", "baseline", ("all", "reject")),
        ("warn", "reject", ("qa_agent", "reject")),
    ],
)
def test_strictest_of_the_spent_budgets_wins(of_all: str, own: str, happens: tuple[str, str]) -> None:
    policy = budgeted({"daily_usd": 1, "on_exceeded": of_all}, {"daily_usd": 1, "on_exceeded": own})
    budgets = Budgets()
    spend(budgets, policy, 1.0)
    if happens[1] == "reject":
        with pytest.raises(BudgetSpent):
            admit(budgets, policy)
    else:
        assert admit(budgets, policy).to_baseline
    assert budgets.exceeded == {(happens[0], "day", happens[1]): 1}


@pytest.mark.parametrize("action", ["baseline", "reject", "warn"])
def test_log_tells_once_in_a_window(action: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = budgeted({"hourly_usd": 1, "on_exceeded": action})
    budgets = Budgets()
    for time in (NOON, NOON + HOUR):
        for _ in range(4):
            with suppress(BudgetSpent):
                spend(budgets, policy, 1.0, time)
    told = [record for record in caplog.records if record.name == "splitlane.budget"]
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    assert told[0].getMessage().startswith("budget of all, hour: 1 of 1 US dollars spent, 0 reserved; ")
    assert "until 2026-10-31T13:00:00Z" in told[0].getMessage()


# --- what outlives what -----------------------------------------------------------------------------


def test_reload_changes_limits_and_not_what_was_spent() -> None:
    budgets = Budgets()
    before = budgeted({"daily_usd": 9, "on_exceeded": "reject"})
    spend(budgets, before, 4.0)
    held = admit(budgets, before)
    lower = budgeted({"hourly_usd": 5, "on_exceeded": "reject"})  # the hour was counted too
    assert state(budgets, lower) == {("all", "hour"): (4, 1)}
    with pytest.raises(BudgetSpent):
        admit(budgets, lower)
    admit(budgets, before)  # a request that took the old policy goes by it
    budgets.settle(held, 1.0, None)
    assert state(budgets, budgeted({"daily_usd": 50})) == {("all", "day"): (5, 1)}


def test_agent_that_leaves_the_policy_and_comes_back_has_spent_what_it_had() -> None:
    budgets = Budgets()
    policy = budgeted(own={"daily_usd": 1, "on_exceeded": "reject"})
    spend(budgets, policy, 1.0)
    with pytest.raises(BudgetSpent):
        admit(budgets, policy)
    budgets.keep({"other_agent"})
    assert budgets.exceeded == {}
    with pytest.raises(BudgetSpent):
        admit(budgets, policy)


def test_what_others_spent_counts_by_hour_by_day_by_agent_and_for_all() -> None:
    budgets = Budgets()
    policy = budgeted({"hourly_usd": 99, "daily_usd": 99}, {"hourly_usd": 99, "daily_usd": 99})
    spend(budgets, policy, 0.5)
    budgets.others(
        {(UNIX_HOUR, "qa_agent"): 1.0, (UNIX_HOUR, "gone"): 2.0, (UNIX_HOUR - 12, "qa_agent"): 4.0}
    )  # the last one in the day's first hour
    assert state(budgets, policy) == {
        ("all", "hour"): (3.5, 0),
        ("all", "day"): (7.5, 0),
        ("qa_agent", "hour"): (1.5, 0),
        ("qa_agent", "day"): (5.5, 0),
    }


def test_what_others_spent_is_told_whole_each_time() -> None:
    budgets = Budgets()
    policy = budgeted({"daily_usd": 99})
    for spent in (1.0, 1.5):
        budgets.others({(UNIX_HOUR, "qa_agent"): spent})
    assert state(budgets, policy) == {("all", "day"): (1.5, 0)}


def test_yesterdays_spending_is_not_todays() -> None:
    budgets = Budgets()
    budgets.others({(UNIX_HOUR - 13, "qa_agent"): 9.0})
    policy = budgeted({"hourly_usd": 1, "daily_usd": 1})
    assert state(budgets, policy) == {("all", "hour"): (0, 0), ("all", "day"): (0, 0)}


def test_budget_survives_a_restart_by_what_the_store_tells() -> None:
    policy = budgeted({"daily_usd": 5, "on_exceeded": "reject"})
    reborn = Budgets()
    reborn.others({(UNIX_HOUR, "qa_agent"): 5.0})
    with pytest.raises(BudgetSpent):
        admit(reborn, policy)


# --- copies for a shadow ----------------------------------------------------------------------------


def copied(budgets: Budgets, policy: Policy, time: float = NOON) -> Reservation | None:
    agent = policy.agents[b"qa_agent"]
    assert agent.shadow is not None
    return budgets.admit_copy(policy, agent, agent.shadow, DOLLAR, time)


def shadowed(budgets: dict[str, Any], own: dict[str, Any], daily_usd: float = 100) -> Policy:
    shadow = {"percentage": 5, "daily_usd": daily_usd}
    agents = {**TWO_AGENTS, "qa_agent": {"budgets": own, "shadow": shadow}}
    return policy_of("http://127.0.0.1:1", budgets=budgets, prices=PRICES, agents=agents)


@pytest.mark.parametrize(
    ("of_all", "own", "daily_usd", "fit"),
    [
        ({}, {}, 3.5, 3),
        ({"daily_usd": 5.5}, {}, 100, 4),  # 4.4 of it
        ({"hourly_usd": 5.5, "daily_usd": 1000}, {}, 100, 4),
        ({"daily_usd": 1000}, {"daily_usd": 2.6}, 100, 2),
        ({}, {"hourly_usd": 1.2}, 100, 0),  # one would take more than 80 %
        ({}, {}, 0.5, 0),
    ],
)
def test_copies_fit_into_their_own_day_and_four_fifths_of_every_budget(
    of_all: dict[str, Any], own: dict[str, Any], daily_usd: float, fit: int
) -> None:
    budgets, policy = Budgets(), shadowed(of_all, own, daily_usd)
    held = [each for _ in range(10) if (each := copied(budgets, policy)) is not None]
    assert len(held) == fit
    for each in held:
        budgets.settle(each, 0.0, None)
    held = [each for _ in range(10) if (each := copied(budgets, policy)) is not None]
    assert len(held) == fit, "what was not spent is there again"
    for each in held:
        budgets.settle(each, 1.0, None)
    assert copied(budgets, policy) is None
    if not of_all and not own:
        assert copied(budgets, policy, NOON + DAY) is not None or fit == 0


def test_copies_of_other_processes_count_for_the_shadow_its_agent_and_all() -> None:
    budgets, policy = Budgets(), shadowed({"daily_usd": 100}, {"daily_usd": 50}, 3)
    budgets.others({(UNIX_HOUR, "qa_agent"): 1.0, (UNIX_HOUR, "qa_agent/shadow"): 1.5})
    assert state(budgets, policy) == {("all", "day"): (2.5, 0), ("qa_agent", "day"): (2.5, 0)}
    assert copied(budgets, policy) is not None
    assert copied(budgets, policy) is None
    budgets.others({(UNIX_HOUR, "qa_agent"): 9.0, (UNIX_HOUR, "qa_agent/shadow"): 0.5})
    assert copied(budgets, policy) is not None, "what requests spend is not the shadow's"

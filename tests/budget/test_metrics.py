"""Budgets in a scrape, in numbers that were reckoned by hand."""

from datetime import UTC, datetime

from proxy.budget.budgets import Budgets
from proxy.budget.metrics import budget_metrics
from proxy.policy.snapshot import Policy
from tests.budget.test_budgets import admit, budgeted, spend

NOON = datetime(2026, 10, 31, 12, tzinfo=UTC).timestamp()


def samples(budgets: Budgets, policy: Policy) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("splitlane_budget_"), *sample.labels.values()): sample.value
        for family in budget_metrics(budgets, policy, NOON)
        for sample in family.samples
    }


def test_policy_without_budgets_has_no_series() -> None:
    assert samples(Budgets(), budgeted()) == {}


def test_series_are_those_of_limits_that_exist() -> None:
    policy = budgeted({"hourly_usd": 20}, {"daily_usd": 2.5, "on_exceeded": "baseline"})
    budgets = Budgets()
    spend(budgets, policy, 2.5)
    spend(budgets, policy, 0.5, agent="other_agent")
    admit(budgets, policy)  # goes to the baseline, half a dollar
    assert samples(budgets, policy) == {
        ("limit_usd", "all", "hour"): 20,
        ("spent_usd", "all", "hour"): 3,
        ("reserved_usd", "all", "hour"): 0.5,
        ("limit_usd", "qa_agent", "day"): 2.5,
        ("spent_usd", "qa_agent", "day"): 2.5,
        ("reserved_usd", "qa_agent", "day"): 0.5,
        ("exceeded_total", "qa_agent", "day", "baseline"): 1,
    }

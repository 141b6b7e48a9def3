"""Budgets as Prometheus sees them: only limits that the active policy has."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.budget.budgets import Budgets
from proxy.policy.snapshot import Policy


def budget_metrics(budgets: Budgets, policy: Policy, now: float) -> Iterator[Metric]:
    """The metric families at Unix time `now`."""
    labels = ["scope", "window"]
    limit = GaugeMetricFamily("splitlane_budget_limit_usd", "What may be spent in a window.", labels=labels)
    spent = GaugeMetricFamily("splitlane_budget_spent_usd", "What is spent in the window so far.", labels=labels)
    reserved = GaugeMetricFamily("splitlane_budget_reserved_usd", "What requests in flight may cost.", labels=labels)
    for status in budgets.status(policy, now):
        of = (status.scope, status.window)
        limit.add_metric(of, status.limit)
        spent.add_metric(of, status.spent)
        reserved.add_metric(of, status.reserved)
    exceeded = CounterMetricFamily(
        "splitlane_budget_exceeded",
        "Requests that a spent budget refused, moved to the baseline, or let go.",
        labels=[*labels, "action"],
    )
    for key, count in budgets.exceeded.items():
        exceeded.add_metric(key, count)
    yield from (limit, spent, reserved, exceeded)

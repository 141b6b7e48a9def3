"""Shadows as Prometheus sees them, apart from requests: a copy is none, and is in no other metric."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.exchange.shadow import REASONS, Shadow


def shadow_metrics(shadow: Shadow) -> Iterator[Metric]:
    """The metric families, of the agents that have a shadow."""
    sent = CounterMetricFamily("splitlane_shadow", "Copies by outcome.", labels=["agent", "outcome"])
    dropped = CounterMetricFamily(
        "splitlane_shadow_dropped", "Requests drawn and not copied, or not to the end.", labels=["agent", "reason"]
    )
    cost = CounterMetricFamily("splitlane_shadow_cost_usd", "US dollars that copies have cost.", labels=["agent"])
    in_flight = GaugeMetricFamily("splitlane_shadow_in_flight", "Copies under way.", labels=["agent"])
    for name, state in shadow.agents.items():
        for outcome, count in {"success": 0, **state.outcomes}.items():
            sent.add_metric([name, outcome], count)
        for reason in REASONS:
            dropped.add_metric([name, reason], state.dropped.get(reason, 0))
        cost.add_metric([name], state.cost)
        in_flight.add_metric([name], state.in_flight)
    yield from (sent, dropped, cost, in_flight)

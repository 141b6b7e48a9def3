"""What a scrape says of the policy: which one is active, since when, and what could not replace it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.policy.store import PolicyStore
from proxy.telemetry.metrics import gauge


def policy_metrics(store: PolicyStore) -> Iterator[Metric]:
    """Of the policy that is active now."""
    info = GaugeMetricFamily("splitlane_policy_info", "The active policy.", labels=["hash"])
    info.add_metric([store.active.policy.hash], 1)
    yield info
    rejected = "1: the policy's files, as they are now, cannot be used."
    yield gauge("splitlane_policy_rejected", rejected, store.rejection is not None)
    yield gauge("splitlane_policy_loaded_timestamp_seconds", "When the policy was loaded.", store.loaded_at)
    yield CounterMetricFamily("splitlane_policy_reloads", "Policies that replaced another.", value=store.reloads)
    yield CounterMetricFamily(
        "splitlane_policy_reload_failures", "Policy files that could not be used.", value=store.failures
    )

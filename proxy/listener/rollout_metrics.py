"""Rollouts as Prometheus sees them: the agents of the active policy, and only what a store has said."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.experiment.actions import FAILED, PAUSED, Action
from proxy.ledger.standing import Standing
from proxy.policy.snapshot import Policy


def rollout_metrics(standing: Standing | None, policy: Policy) -> Iterator[Metric]:
    """The metric families; without series while no store has been heard."""
    held = GaugeMetricFamily("splitlane_rollout_held", "1: the ramp is held, so.", labels=["agent", "kind"])
    moves = CounterMetricFamily(
        "splitlane_rollout_moves", "Decisions on the ramp that the store has.", labels=["agent", "action"]
    )
    srm_p = GaugeMetricFamily(
        "splitlane_srm_p", "The sample ratio's smallest p-value so far, of the current salt.", labels=["agent"]
    )
    if standing is not None:
        holds, decided, p_values = standing
        for agent in policy.agents.values():
            for kind in (PAUSED, FAILED):
                held.add_metric([agent.name, kind], holds.get(agent.name) == kind)
            for action in Action:  # a counter that begins at 1 has no increase
                moves.add_metric([agent.name, action], decided.get((agent.name, action), 0))
            p = p_values.get((agent.name, agent.salt))
            if p is not None:
                srm_p.add_metric([agent.name], p)
    yield from (held, moves, srm_p)

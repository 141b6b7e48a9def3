"""Which keys of a policy hold the percentages, and what to write there.  Percentages live there and nowhere else."""

from collections.abc import Mapping

from proxy.policy.config import PolicyConfig
from proxy.policy.load import LoadedPolicy
from proxy.policy.splice import KeyPath, Value

SHARED: KeyPath = ("ab_testing", "rollout_percentage")


class FixedPercentage(Exception):  # noqa: N818 a state of the policy, not a fault
    """A percentage that cannot be set; the message is one line."""


def switched_off(config: PolicyConfig) -> str:
    """Why percentages decide nothing; empty where they do."""
    if not config.models.use_finetuned:
        return "models.use_finetuned is false: everybody is on the baseline, whatever the percentage"
    if not config.ab_testing.enabled:
        return "ab_testing.enabled is false: everybody is fine-tuned, whatever the percentage"
    return ""


def changes_for(loaded: LoadedPolicy, targets: Mapping[str, float]) -> dict[KeyPath, Value]:
    """Key path → percentage, of the agents whose percentage changes.  Raises FixedPercentage.

    Where all agents go to one value and none has a percentage of its own, it is the shared one.
    """
    if reason := switched_off(loaded.config):
        raise FixedPercentage(reason)
    agents = loaded.policy.agents.values()
    after = {agent.name: targets.get(agent.name, agent.percentage) for agent in agents}
    moved = [agent.name for agent in agents if after[agent.name] != agent.percentage]
    alone = any(agent.rollout_percentage is not None for agent in loaded.config.agents.values())
    if moved == list(after) and len(set(after.values())) == 1 and not alone and SHARED not in loaded.expanded:
        return {SHARED: after[moved[0]]}
    own: dict[KeyPath, Value] = {("agents", name, "rollout_percentage"): after[name] for name in moved}
    for key in own:
        if key in loaded.expanded:
            raise FixedPercentage(f"{'.'.join(key)} comes through ${{…}}: change what that stands for")
    return own

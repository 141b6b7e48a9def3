"""What a change of policy does, told before it happens.  Pure; shows no secret.

Per agent: which settings change, which share of its users changes variant, what becomes more
expensive.  The shares are of all users an agent could have (see `moves.py`), not of those it has had.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.policy.agent_diff import AgentDiff, SettingChange, setting_changes
from proxy.policy.diff_text import agent_json, agent_lines, setting_line
from proxy.policy.snapshot import AgentPolicy, Policy


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Two policies, compared."""

    old: str  # the policies' hashes
    new: str
    agents: Mapping[str, AgentDiff]  # in the new policy's order, removed ones last; unchanged ones too
    settings: tuple[SettingChange, ...]  # what holds for all agents
    warnings: tuple[str, ...]

    @property
    def regresses(self) -> bool:
        """Whether users of any agent move back from fine-tuned without its percentage falling."""
        return any(agent.regresses for agent in self.agents.values())

    def as_json(self) -> dict[str, Any]:
        """The whole comparison in plain JSON values; shares are 0 … 1, prices US dollars per million tokens."""
        return {
            "old": self.old,
            "new": self.new,
            "regresses": self.regresses,
            "agents": {name: agent_json(agent) for name, agent in self.agents.items()},
            "settings": [change._asdict() for change in self.settings],
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """The comparison for people, a line each, without colours."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"policy {self.old} → {self.new}"
        yield from map(setting_line, self.settings)
        yield from (f"warning: {warning}" for warning in self.warnings)
        for agent in self.agents.values():
            yield from agent_lines(agent)
        if back := [agent.name for agent in self.agents.values() if agent.regresses]:
            yield f"users move back from fine-tuned although no percentage falls: {', '.join(back)}"


def diff_policies(old: Policy, new: Policy) -> PolicyDiff:
    """What changes when `new` takes the place of `old`."""
    names = [*new.agents, *(name for name in old.agents if name not in new.agents)]
    agents = (_agent_diff(old, new, name) for name in names)
    settings = tuple(setting_changes(old.settings, new.settings))
    return PolicyDiff(old.hash, new.hash, {agent.name: agent for agent in agents}, settings, tuple(_warnings(settings)))


def _agent_diff(old: Policy, new: Policy, name: bytes) -> AgentDiff:
    sides = old.agents.get(name), new.agents.get(name)
    without = _without_user(old, sides[0]), _without_user(new, sides[1])
    return AgentDiff(name.decode(), *sides, without)


def _without_user(policy: Policy, agent: AgentPolicy | None) -> str:
    """What becomes of an agent's chat request that names no user.

    finetuned | baseline | random | rejected | passthrough.
    """
    if agent is None:
        return "passthrough"
    if agent.everyone:
        return "finetuned"
    if policy.identity.on_missing_user == "reject":
        return "rejected"
    return "random" if policy.identity.on_missing_user == "random" and agent.percentage else "baseline"


def _warnings(settings: tuple[SettingChange, ...]) -> Iterator[str]:
    changed = {change.key for change in settings}
    for key, who in (("user", "users"), ("agent", "agents"), ("keys", "agents"), ("trusted", "agents")):
        if f"identity.{key}" in changed:
            yield f"identity.{key} changes: requests may be told to other {who} than before, which no share here counts"
    if changed & {"listen.data", "listen.admin", "listen.admin_hosts"}:
        yield "listen changes: takes a restart"

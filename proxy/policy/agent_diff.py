"""One agent under two policies: what changes, and who moves.  Pure; shows no secret."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from proxy.policy.moves import Flow, costs_more, finetuned_share, flows, is_reshuffled
from proxy.policy.settings import Secret, Settings, agent_settings
from proxy.policy.snapshot import AgentPolicy, Price
from proxy.words import Variant

_ABSENT = "none"


class SettingChange(NamedTuple):
    """One setting, as shown to people; a secret says only that it changed."""

    key: str
    old: str
    new: str


class PriceChange(NamedTuple):
    """What a variant's model costs before and after; None: the policy names no price."""

    variant: Variant
    old: Price | None
    new: Price | None

    @property
    def costs_more(self) -> bool:
        """Whether any of the three prices rises; False where one is unknown."""
        return costs_more(self.old, self.new)


@dataclass(frozen=True, slots=True)
class AgentDiff:
    """One agent under two policies.  An absent agent's requests pass through, and its users have no variant."""

    name: str
    old: AgentPolicy | None
    new: AgentPolicy | None
    without_user: tuple[str, str]  # what becomes of requests without a user, before and after

    @property
    def change(self) -> str:
        """added | removed | changed | unchanged."""
        if self.old is None or self.new is None:
            return "added" if self.old is None else "removed"
        quiet = not self.settings and not self.prices and self.without_user[0] == self.without_user[1]
        return "unchanged" if quiet else "changed"

    @property
    def settings(self) -> tuple[SettingChange, ...]:
        """The agent's own settings that differ."""
        before = {} if self.old is None else agent_settings(self.old)
        after = {} if self.new is None else agent_settings(self.new)
        return tuple(setting_changes(before, after))

    @property
    def flows(self) -> tuple[Flow, ...]:
        """All its users by where they come from and go to; empty where one side has no variants."""
        return () if self.old is None or self.new is None else flows(self.old, self.new)

    @property
    def reshuffled(self) -> bool:
        """Whether the two cohorts are independent draws, so that the shares are expected ones."""
        return self.old is not None and self.new is not None and is_reshuffled(self.old, self.new)

    @property
    def prices(self) -> tuple[PriceChange, ...]:
        """The variants whose price per million tokens differs."""
        if self.old is None or self.new is None:
            return ()
        both = (
            PriceChange(Variant.FINETUNED, self.old.finetuned.price, self.new.finetuned.price),
            PriceChange(Variant.BASELINE, self.old.baseline.price, self.new.baseline.price),
        )
        return tuple(change for change in both if change.old != change.new)

    @property
    def leaving(self) -> float:
        """The share of its users that loses the fine-tuned variant, 0 … 1."""
        if self.old is None:
            return 0.0
        if self.new is None:
            return finetuned_share(self.old)
        return sum(flow.share for flow in self.flows if flow.moves and flow.before is Variant.FINETUNED)

    @property
    def regresses(self) -> bool:
        """Whether users lose the fine-tuned variant although the percentage does not fall.

        A removed agent has no percentage that could have been lowered: lower it to 0 first.
        """
        lowered = self.old is not None and self.new is not None and self.new.percentage < self.old.percentage
        return self.leaving > 0 and not lowered


def setting_changes(old: Settings, new: Settings) -> Iterator[SettingChange]:
    """What differs, in the new side's order; a key that one side lacks is `none` there."""
    for key in (*new, *(key for key in old if key not in new)):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if before != after:
            hidden = isinstance(before, Secret) or isinstance(after, Secret)
            yield SettingChange(key, *(_secret_change(before, after) if hidden else (before, after)))


def _secret_change(before: str, after: str) -> tuple[str, str]:
    was, is_now = (bool(text) and text != _ABSENT for text in (before, after))
    return ("a secret" if was else _ABSENT), ("another secret" if was and is_now else "a secret" if is_now else _ABSENT)

"""Who changes variant between two policies of one agent: shares of its users.  Pure.

An agent's draw puts every user somewhere between 0 and 1, and the first `finetuned_share` of that are
fine-tuned.  The laws:

- The same salt and formula: one draw, so what moves is the difference of two shares, exactly.  Native
  draws have 10,000 buckets; `compat: unleash` has 100 groups of its own.
- Another salt, or another formula on the same salt (one reads the hash's top bits, the other its
  remainder): two independent draws, so the shares are expected ones, the product of both.
- Whoever has nobody or everybody on one side leaves nothing to chance: those shares are exact again.
"""

from typing import NamedTuple

from proxy.policy.snapshot import AgentPolicy, Price, Target
from proxy.words import Variant

BUCKETS = 10_000
GROUPS = 100  # of `compat: unleash`, numbered from 1


class Flow(NamedTuple):
    """The users that were in one variant and will be in another, or in the same."""

    before: Variant
    after: Variant
    share: float  # of the agent's users, 0 … 1
    old: Target
    new: Target

    @property
    def moves(self) -> bool:
        """Whether these users change variant."""
        return self.share > 0 and self.before is not self.after

    @property
    def changes_model(self) -> bool:
        """Whether these users are answered by another model, or by the same one elsewhere."""
        return self.share > 0 and (self.old.model, self.old.upstream.name) != (self.new.model, self.new.upstream.name)

    @property
    def costs_more(self) -> bool:
        """Whether these users' tokens become more expensive; False where a price is unknown."""
        return self.share > 0 and costs_more(self.old.price, self.new.price)


def costs_more(old: Price | None, new: Price | None) -> bool:
    """Whether any of the three prices per million tokens rises; False where one is unknown."""
    if old is None or new is None:
        return False
    return new.input > old.input or new.output > old.output or new.cached_input > old.cached_input


def finetuned_share(agent: AgentPolicy) -> float:
    """The share of the draw that is fine-tuned, 0 … 1."""
    return int(agent.percentage) / GROUPS if agent.unleash else agent.threshold / BUCKETS


def is_reshuffled(old: AgentPolicy, new: AgentPolicy) -> bool:
    """Whether chance decides who is in both cohorts: another draw, and neither side all or nothing."""
    same_draw = (old.salt, old.unleash) == (new.salt, new.unleash)
    return not same_draw and 0 < finetuned_share(old) < 1 and 0 < finetuned_share(new) < 1


def flows(old: AgentPolicy, new: AgentPolicy) -> tuple[Flow, ...]:
    """All users of an agent by where they come from and go to; the four shares sum to 1."""
    before, after = finetuned_share(old), finetuned_share(new)
    both = before * after if is_reshuffled(old, new) else min(before, after)
    finetuned, baseline = Variant.FINETUNED, Variant.BASELINE
    return (
        Flow(baseline, finetuned, _tidy(after - both), old.baseline, new.finetuned),
        Flow(finetuned, baseline, _tidy(before - both), old.finetuned, new.baseline),
        Flow(finetuned, finetuned, _tidy(both), old.finetuned, new.finetuned),
        Flow(baseline, baseline, _tidy(1 - before - after + both), old.baseline, new.baseline),
    )


def _tidy(share: float) -> float:
    """A share without the dust of binary fractions: products of two shares have eight decimals."""
    return round(share, 8) or 0.0

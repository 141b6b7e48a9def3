"""One gate's numbers, and how they are told.  Pure.

Within, everything is on the effect's own scale, a logarithm where that is relative; a `GateVerdict` has it as
people read it, a change of so many per cent.
"""

from dataclasses import dataclass
from math import expm1, inf, isfinite

from proxy.experiment.bounds import one_sided, p_value_above
from proxy.experiment.metrics import Effect, Metric, effect_of, margin_of
from proxy.experiment.ramp import Stratum
from proxy.experiment.verdict import Because, GateVerdict, Outcome
from proxy.policy.config_rollout import GateConfig

_LONGEST = 1e4  # times today's data: beyond it nobody waits


@dataclass(frozen=True, slots=True)
class Reading:
    """What one gate's metric says."""

    metric: Metric
    gate: GateConfig
    effect: Effect
    margin: float
    lower: float  # one-sided, at the gate's share of alpha, residuals under no harm
    upper: float  # one-sided, at the full alpha, residuals under the margin
    p: float  # one-sided, of no harm; at most the gate's share of alpha where `lower` is 0 or more
    variance: float  # that of `upper`

    @property
    def limits(self) -> str:
        """The bounds and the margin, in words."""
        lower, upper, margin = (_amount(self.metric, value) for value in (self.lower, self.upper, self.margin))
        return f"between {lower} and {upper}, allowed {margin}"

    @property
    def harm(self) -> str:
        """How much worse it is, in words."""
        estimate, lower, margin = (
            _amount(self.metric, value) for value in (self.effect.estimate, self.lower, self.margin)
        )
        return f"worse by {estimate}, certainly by more than {lower}, allowed {margin}"

    def until_clear(self, share: float, age: float | None) -> float | None:
        """Seconds until `upper` clears the margin, should the estimate stay and traffic go on as it does.

        `share` of what is known comes from the current stage, `age` seconds old.  None where waiting does not help.
        """
        room = self.margin - self.effect.estimate

        def clears(growth: float) -> bool:
            return one_sided(self.variance / growth, int(self.effect.clusters * growth)) < room

        if room <= 0.0 or share <= 0.0 or not age or not clears(_LONGEST):
            return None
        low, high = 1.0, _LONGEST
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if clears(middle) else (middle, high)
        return (high - 1.0) * age / share

    def verdict(self, outcome: Outcome, because: Because | None) -> GateVerdict:
        """The numbers with what they come to."""
        metric, effect = self.metric, self.effect
        return GateVerdict(
            gate=metric.gate,
            kind=self.gate.kind,
            outcome=outcome,
            because=because,
            scale=metric.scale,
            finetuned=_read(metric, effect.treated),
            baseline=None if effect.control is None else _read(metric, effect.control),
            estimate=_scaled(metric, effect.estimate),
            lower=_scaled(metric, self.lower),
            upper=_scaled(metric, self.upper),
            margin=_scaled(metric, self.margin) or 0.0,
            clusters=effect.arms,
        )


def read(metric: Metric, gate: GateConfig, data: list[Stratum], alpha: float) -> Reading | None:
    """A gate's numbers, `alpha` being its share; None where no stage has data of the arms it needs."""
    effect = effect_of(metric, gate, data)
    if effect is None:
        return None
    margin = margin_of(gate)
    harmless, worst = effect.variance(0.0), effect.variance(margin)
    return Reading(
        metric,
        gate,
        effect,
        margin,
        effect.estimate - one_sided(harmless, effect.clusters, alpha),
        effect.estimate + one_sided(worst, effect.clusters),
        p_value_above(effect.estimate, harmless, effect.clusters, alpha),
        worst,
    )


def unread(metric: Metric, gate: GateConfig, outcome: Outcome, because: Because) -> GateVerdict:
    """A gate without numbers."""
    margin = _scaled(metric, margin_of(gate)) or 0.0
    return GateVerdict(
        metric.gate, gate.kind, outcome, because, metric.scale, None, None, None, None, None, margin, (0, 0)
    )


def _read(metric: Metric, rate: float) -> float:
    return 1.0 - rate if metric.flipped else rate


def _scaled(metric: Metric, value: float) -> float | None:
    """As people read it; None where it is boundless."""
    if metric.scale == "relative":
        value = expm1(value) if value < 700.0 else inf
    return value if isfinite(value) else None


def _amount(metric: Metric, value: float) -> str:
    shown = _scaled(metric, value)
    if shown is None:
        return "anything"
    if metric.scale == "score":
        return f"{shown:+.3f}"
    return f"{100.0 * shown:+.2f} {'pp' if metric.scale == 'points' else '%'}"

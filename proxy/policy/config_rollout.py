"""`rollout:` of the policy file: the ramp, its gates, the brake, and the health of the experiment.

Margins keep the sign a person writes: what may be lost of a share is negative points, what may be
added to a cost is a positive per cent.  A sign the wrong way round would gate on the opposite.
"""

import itertools
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from proxy.policy import units
from proxy.policy.fields import (
    Duration,
    Flag,
    Percentage,
    PositiveDuration,
    Section,
    Share,
    number,
    whole,
    with_unit,
)


def _drop(margin: float) -> float:
    if margin > 0:
        raise ValueError("a tolerated drop, which is negative")
    return margin


def _rise(margin: float) -> float:
    if margin < 0:
        raise ValueError("a tolerated rise, which is positive")
    return margin


PointsDrop = Annotated[  # -1pp is -0.01
    float, with_unit(units.parse_points, units.POINTS_DOWN, units.show_points), AfterValidator(_drop)
]
PointsRise = Annotated[float, with_unit(units.parse_points, units.POINTS_UP, units.show_points), AfterValidator(_rise)]
PercentRise = Annotated[  # +10% is 0.1
    float, with_unit(units.parse_percent, units.RISE, units.show_rise), AfterValidator(_rise)
]
ScoreDrop = Annotated[float, number(-1, 0)]  # feedback's own scale, 0 … 1

Action = Literal["hold", "warn"]

DEFAULT_RAMP = (10.0, 25.0, 50.0, 100.0)  # the owner's plan for one week


def _increasing(percentages: tuple[float, ...]) -> None:
    if not percentages or percentages[0] <= 0:
        raise ValueError("at least one step, above 0")
    if any(later <= earlier for earlier, later in itertools.pairwise(percentages)):
        raise ValueError("percentages that rise with every step")


class StepSampleConfig(Section):
    """The least a stage must have seen before it is judged; per arm for users."""

    users: Annotated[int, whole(0)] = 100
    """Users per arm before it is judged."""
    requests: Annotated[int, whole(0)] = 1000
    """Requests before it is judged."""


class StepConfig(Section):
    """One stage of the ramp."""

    percent: Percentage
    """One stage's share."""
    soak: Duration = 86400.0  # a whole day: traffic at night is other traffic
    """The least time a stage lasts."""
    min: StepSampleConfig = StepSampleConfig()
    approval: Flag = False
    """Whether a person must agree before the stage begins."""


class GateSampleConfig(Section):
    """The least one gate must have seen, per arm."""

    users: Annotated[int, whole(0)] = 100
    """Users per arm."""
    events: Annotated[int, whole(0)] = 10  # users with at least one event; below it no normal limit holds
    """Users with at least one event, per arm."""
    rated: Annotated[int, whole(0)] = 0
    """Rated users per arm; the default feedback gate has `100`."""


class GateConfig(Section):
    """What all gates share: a guardrail may roll back, a signal may only hold."""

    kind: Literal["guardrail", "signal"]
    """A guardrail may roll back; a signal may only hold."""
    min: GateSampleConfig = GateSampleConfig()
    on_insufficient: Literal["hold", "ignore"] = "hold"
    """What happens with too little data; the default feedback gate has `ignore`."""


class DropGateConfig(GateConfig):
    """A share that may fall by at most `margin`."""

    margin: PointsDrop
    """The fall of the rate that is tolerated."""


class RiseGateConfig(GateConfig):
    """A share that may rise by at most `margin`."""

    margin: PointsRise
    """The rise of the share of slow requests."""


class RelativeGateConfig(GateConfig):
    """A mean that may rise by at most `margin` of itself."""

    margin: PercentRise
    """The rise of the mean that is tolerated."""


class CeilingGateConfig(GateConfig):
    """A share that may reach at most `max`."""

    max: Share
    """The share of rescued requests."""


class ScoreGateConfig(GateConfig):
    """A mean score that may fall by at most `margin`."""

    margin: ScoreDrop
    """The fall of the mean rating, on feedback's own scale of 0 … 1."""


class GatesConfig(Section):
    """One gate per metric; `null` turns a gate off."""

    success: DropGateConfig | None = DropGateConfig.model_validate({"kind": "guardrail", "margin": "-1pp"})
    """The success rate, as users see it."""
    first_attempt: DropGateConfig | None = DropGateConfig.model_validate({"kind": "guardrail", "margin": "-2pp"})
    """The success rate of the first attempt."""
    fallback_rate: CeilingGateConfig | None = CeilingGateConfig.model_validate({"kind": "guardrail", "max": "5%"})
    """The share of rescued requests."""
    latency_p95: RiseGateConfig | None = RiseGateConfig.model_validate({"kind": "guardrail", "margin": "+2.5pp"})
    """The share of requests slower than the baseline's 95th percentile."""
    latency_mean: RelativeGateConfig | None = RelativeGateConfig.model_validate({"kind": "signal", "margin": "+10%"})
    """The mean latency."""
    cost: RelativeGateConfig | None = RelativeGateConfig.model_validate({"kind": "signal", "margin": "+0%"})
    """The mean cost."""
    feedback: ScoreGateConfig | None = ScoreGateConfig.model_validate(
        {"kind": "signal", "margin": -0.05, "min": {"rated": 100}, "on_insufficient": "ignore"}
    )
    """The mean rating."""


class BrakeConfig(Section):
    """The CUSUM on first-attempt failures of the fine-tuned arm."""

    enabled: Flag = True
    """The emergency brake on the fine-tune's first-attempt failures."""
    floor: Share = 0.02  # p0 is at least this, so that a spotless baseline does not make it jumpy
    """The least failure rate that counts as normal."""
    odds: Annotated[float, number(1, 1e12, above=True)] = 100_000.0  # trips at their logarithm
    """The evidence at which it trips."""
    per_minute: Annotated[int, whole(1)] = 3  # failures counted per bucket: one looping client is no outage
    """Failures counted per bucket and minute."""


class SrmConfig(Section):
    """Sample-ratio mismatch: the split itself is broken below this p-value."""

    p: Annotated[float, number(0, 1, above=True)] = 0.001
    """Below this p-value the split itself is broken."""
    action: Action = "hold"
    """What happens then."""


class NoTrafficConfig(Section):
    """An agent nobody calls."""

    grace: PositiveDuration = 86400.0
    """How long nobody may call an agent."""
    action: Action = "hold"
    """What happens then."""


class MissingUsersConfig(Section):
    """The share of requests without a user."""

    max: Share = 0.20
    """The share of requests without a user."""
    action: Action = "warn"
    """What happens then."""


class StaleConfig(Section):
    """The age of the newest data."""

    max: PositiveDuration = 900.0
    """The age of the newest data."""
    action: Action = "hold"
    """What happens then."""


class HealthConfig(Section):
    """When the numbers cannot be trusted, and what then."""

    srm: SrmConfig = SrmConfig()
    no_traffic: NoTrafficConfig = NoTrafficConfig()
    missing_users: MissingUsersConfig = MissingUsersConfig()
    stale: StaleConfig = StaleConfig()


class InconclusiveConfig(Section):
    """A stage that neither passes nor fails."""

    after: PositiveDuration = 14 * 86400.0
    """When a stage has neither passed nor failed."""
    action: Literal["hold", "rollback"] = "hold"
    """What happens then."""


class RolloutConfig(Section):
    """The whole ramp.  `ramp` is shorthand for steps with nothing but a percentage."""

    ramp: tuple[Percentage, ...] | None = None
    """Short for steps with nothing but a percentage."""
    steps: tuple[StepConfig, ...] | None = Field(default=None, validate_default=True)
    """The stages in their order."""
    observe: PositiveDuration | None = None
    """How long the arms are compared at 0 % before the first stage begins by itself."""
    gates: GatesConfig = GatesConfig()
    brake: BrakeConfig = BrakeConfig()
    health: HealthConfig = HealthConfig()
    on_fail: Literal["rollback", "pause"] = "rollback"
    """What happens when a guardrail fails."""
    on_inconclusive: InconclusiveConfig = InconclusiveConfig()

    @field_validator("ramp")
    @classmethod
    def _ramp_rises(cls, ramp: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if ramp is not None:
            _increasing(ramp)
        return ramp

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[StepConfig, ...] | None, info: ValidationInfo) -> tuple[StepConfig, ...] | None:
        ramp = info.data.get("ramp")
        if steps is None:
            return tuple(StepConfig(percent=percent) for percent in ramp or DEFAULT_RAMP)
        percentages = tuple(step.percent for step in steps)
        _increasing(percentages)
        if ramp is not None and ramp != percentages:
            raise ValueError("the same percentages as `ramp`, or only one of the two")
        return steps

    @property
    def plan(self) -> tuple[StepConfig, ...]:
        """The stages, whichever way they were written."""
        return self.steps or ()

"""How a gate's numbers are told, and how far ahead they can be told."""

from dataclasses import replace

import pytest

from proxy.experiment.metrics import METRICS, split, strata
from proxy.experiment.reading import Reading, read
from proxy.experiment.verdict import Outcome
from proxy.policy.config_rollout import GatesConfig
from tests.support.ramps import DAY, Traffic, stage

GATES = GatesConfig()


def reading_of(gate: str) -> Reading:
    (metric,) = (metric for metric in METRICS if metric.gate == gate)
    data = strata(metric, split([stage(50.0, Traffic(1, 1500).day(50.0))]))
    found = read(metric, getattr(GATES, gate), data, 0.05)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("gate", "limits"),
    [
        ("success", "between -1.00 pp and +2.00 pp, allowed +1.00 pp"),
        ("latency_mean", "between -1.00 % and +2.02 %, allowed +10.00 %"),
        ("cost", "between -1.00 % and +2.02 %, allowed +0.00 %"),
        ("feedback", "between -0.010 and +0.020, allowed +0.050"),
    ],
)
def test_limits_are_told_in_the_unit_of_the_gate(gate: str, limits: str) -> None:
    (metric,) = (metric for metric in METRICS if metric.gate == gate)
    changed = replace(reading_of("success"), metric=metric, lower=-0.01, upper=0.02, margin=0.0)
    margin = reading_of(gate).margin if gate != "feedback" else 0.05
    assert replace(changed, margin=margin).limits == limits


def test_boundless_limit_is_told_as_such_and_is_no_number() -> None:
    boundless = replace(reading_of("latency_mean"), lower=float("-inf"), upper=1e4)
    assert boundless.limits.startswith("between -100.00 % and anything")
    verdict = boundless.verdict(Outcome.PASS, None)
    assert (verdict.lower, verdict.upper) == (-1.0, None)


def test_half_the_room_takes_about_four_times_as_long() -> None:
    found = reading_of("latency_p95")
    wait = [replace(found, margin=found.effect.estimate + room).until_clear(1.0, DAY) for room in (0.01, 0.005)]
    assert wait[0] is not None
    assert wait[1] is not None
    assert 4 < (wait[1] + DAY) / (wait[0] + DAY) < 5  # the bounds are wider far from the planned size


@pytest.mark.parametrize(("share", "age"), [(0.0, DAY), (1.0, None)])
def test_stage_that_adds_nothing_has_no_wait(share: float, age: float | None) -> None:
    assert reading_of("success").until_clear(share, age) is None


def test_stage_with_half_of_what_is_known_adds_half_as_fast() -> None:
    found = reading_of("success")
    whole, half = found.until_clear(1.0, DAY), found.until_clear(0.5, DAY)
    assert whole is not None
    assert half == pytest.approx(2 * whole)

"""The arrays' estimates and variances are those of the sums taken bucket by bucket, over several stages."""

import numpy as np
import pytest

from proxy.experiment.ramp import Stratum, difference
from proxy.experiment.ratio import Arm
from proxy.experiment.simulate.books import COST, FAILED, REQUESTS, ROWS, StageSums
from proxy.experiment.simulate.moments import Arms, Moments

COLUMNS, CUTS = 60, (6, 15, 31)


def stages_of(seed: int) -> list[StageSums]:
    rng = np.random.default_rng(seed)
    stages = []
    for percentage, cut in zip((10, 25, 50), CUTS, strict=True):
        sums = np.zeros((ROWS, COLUMNS))
        sums[REQUESTS] = rng.poisson(3, COLUMNS)
        sums[FAILED] = rng.binomial(sums[REQUESTS].astype(int), 0.2)
        sums[COST] = sums[REQUESTS] * rng.random(COLUMNS)
        stages.append(StageSums(percentage, cut, sums))
    return stages


def strata_of(stages: list[StageSums], row: int) -> list[Stratum]:
    strata = []
    for stage in stages:
        seen = np.flatnonzero(stage.sums[REQUESTS])
        arms = [seen[seen < stage.finetuned], seen[seen >= stage.finetuned]]
        strata.append(Stratum(*(Arm(arm.tolist(), stage.sums[row, arm], stage.sums[REQUESTS, arm]) for arm in arms)))
    return strata


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("row", "relative", "nulls"), [(FAILED, False, (0.0, 0.01)), (COST, True, (0.0, 0.1))])
def test_estimate_and_variance_are_the_same(number: int, row: int, relative: bool, nulls: tuple[float, float]) -> None:
    stages = stages_of(number)[:number]
    moments = Moments(stages)
    arms = Arms(moments, row, relative=relative)
    expected = difference(strata_of(stages, row), relative=relative)
    assert expected is not None
    assert arms.estimate == pytest.approx(expected.estimate)
    assert moments.distinct == expected.clusters
    assert moments.clusters == expected.arms
    for null in nulls:
        assert arms.variance(null) == pytest.approx(expected.variance(null))

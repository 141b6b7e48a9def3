"""The gates' estimates and bounds from arrays: what `judge` computes bucket by bucket, for many ramps.

A variance is a sum of squares over buckets that are linear in each bucket's sums.  So it follows from the
products of these sums, added up once over the buckets that enter the fine-tuned arm together.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from proxy.experiment.simulate.books import REQUESTS, StageSums
from proxy.experiment.simulate.requests import Floats


class Estimate(NamedTuple):
    """On the harm scale, with its clustered variance."""

    value: float
    variance: float


class Arms:
    """One metric, Y/N with N the requests, in the stages where both arms have some.  Thresholds rise."""

    def __init__(self, stages: Sequence[StageSums], row: int) -> None:
        number = len(stages)
        columns = np.stack([stage.sums[row] for stage in stages] + [stage.sums[REQUESTS] for stage in stages])
        edges = [0, *(stage.threshold for stage in stages), columns.shape[1]]
        groups = [columns[:, low:high] for low, high in pairwise(edges)]
        self._products = [group @ group.T for group in groups]
        sums = np.array([group.sum(axis=1) for group in groups])
        entered = np.cumsum(sums, axis=0)
        places = np.arange(number)  # in stage s the groups 0 … s are fine-tuned
        self.y_t, self.n_t = entered[places, places], entered[places, places + number]
        self.y_c, self.n_c = entered[-1, :number] - self.y_t, entered[-1, number:] - self.n_t
        weights = self.n_t * self.n_c / (self.n_t + self.n_c)
        self._weights = weights / weights.sum()
        self._treated = places >= np.arange(number + 1)[:, None]  # group × stage

    def difference(self, null: float | None = None) -> Estimate:
        """Of the rates; the variance under the null hypothesis that they differ by `null`, or as they are."""
        r_t, r_c = self.y_t / self.n_t, self.y_c / self.n_c
        value = float(self._weights @ (r_t - r_c))
        if null is not None:
            r_c = (self.y_t + self.y_c - null * self.n_t) / (self.n_t + self.n_c)
            r_t = r_c + null
        return Estimate(value, self._variance(r_t, r_c, self._weights / self.n_t, self._weights / self.n_c))

    def log_ratio(self) -> Estimate:
        """Of the means; all must be above zero."""
        r_t, r_c = self.y_t / self.n_t, self.y_c / self.n_c
        value = float(self._weights @ np.log(r_t / r_c))
        weights = self._weights
        return Estimate(value, self._variance(r_t, r_c, weights / (self.n_t * r_t), weights / (self.n_c * r_c)))

    def _variance(self, r_t: Floats, r_c: Floats, c_t: Floats, c_c: Floats) -> float:
        """Of Σ ± c (Y − r N), with r and c by stage and arm."""
        factors = np.where(self._treated, c_t, -c_c)
        vectors = np.concatenate([factors, -factors * np.where(self._treated, r_t, r_c)], axis=1)
        return sum(float(vector @ products @ vector) for vector, products in zip(vectors, self._products, strict=True))

"""The gates' estimates and variances from arrays: what `judge` computes bucket by bucket, for many ramps.

A variance is a sum of squares over buckets that are linear in each bucket's sums.  So it follows from the
products of these sums, added up once over the buckets that enter the fine-tuned arm together.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from math import exp

import numpy as np

from proxy.experiment.ramp import FREE
from proxy.experiment.simulate.books import BUCKETS, REQUESTS, ROWS, StageSums
from proxy.experiment.simulate.requests import Floats, Whole


class Moments:
    """The stages' sums over buckets, and those of products of two of them, by group of buckets.

    Group g is the buckets that are fine-tuned from stage g on; the last group's never are.
    """

    def __init__(self, stages: Sequence[StageSums]) -> None:
        edges = [0, *(stage.threshold for stage in stages), BUCKETS]
        rows = np.concatenate([stage.sums for stage in stages])
        groups = [rows[:, low:high] for low, high in pairwise(edges)]
        self.stages = stages
        self.products = np.array([group @ group.T for group in groups])
        sums = np.cumsum([group.sum(axis=1) for group in groups], axis=0).reshape(-1, len(stages), ROWS)
        places = np.arange(len(stages))
        self.treated: Floats = sums[places, places]  # stage × row
        self.control: Floats = sums[-1] - self.treated

    @cached_property
    def requests(self) -> tuple[Floats, Floats]:
        """By bucket: fine-tuned, baseline."""
        return self.by_bucket(REQUESTS)

    @cached_property
    def clusters(self) -> tuple[int, int]:
        """Buckets with requests, likewise; one that moved is in both."""
        treated, control = self.requests
        return int(np.count_nonzero(treated)), int(np.count_nonzero(control))

    @cached_property
    def distinct(self) -> int:
        """Buckets with requests."""
        treated, control = self.requests
        return int(np.count_nonzero(treated + control))

    def by_bucket(self, row: int) -> tuple[Floats, Floats]:
        """A row's sums over the stages, likewise."""
        treated, control = np.zeros(BUCKETS), np.zeros(BUCKETS)
        for stage in self.stages:
            treated[: stage.threshold] += stage.sums[row, : stage.threshold]
            control[stage.threshold :] += stage.sums[row, stage.threshold :]
        return treated, control


class Arms:
    """One metric, Y/N with N the requests, in those stages where both arms have some."""

    def __init__(self, moments: Moments, row: int) -> None:
        places: Whole = np.arange(len(moments.stages))
        self.y_t, self.n_t = moments.treated[:, row], moments.treated[:, REQUESTS]
        self.y_c, self.n_c = moments.control[:, row], moments.control[:, REQUESTS]
        rows = np.concatenate([places * ROWS + row, places * ROWS + REQUESTS])
        self._products = moments.products[:, rows[:, None], rows]
        weights = self.n_t * self.n_c / (self.n_t + self.n_c)
        self._weights = weights / weights.sum()
        self._treated = places >= np.arange(len(places) + 1)[:, None]  # group × stage

    @cached_property
    def difference(self) -> float:
        """Of the rates."""
        return float(self._weights @ (self.y_t / self.n_t - self.y_c / self.n_c))

    @cached_property
    def log_ratio(self) -> float:
        """Of the means."""
        r_t, r_c = self.y_t / self.n_t, self.y_c / self.n_c
        return float(self._weights @ np.log(np.maximum(r_t, FREE * r_c) / np.maximum(r_c, FREE * r_t)))

    @property
    def baseline(self) -> float:
        """Its rate, the stages weighted alike."""
        return float(self._weights @ (self.y_c / self.n_c))

    def variance(self, null: float) -> float:
        """Of the difference, were it truly `null`."""
        r_c = (self.y_t + self.y_c - null * self.n_t) / (self.n_t + self.n_c)
        return self._variance(r_c + null, r_c, self._weights / self.n_t, self._weights / self.n_c)

    def log_variance(self, null: float) -> float:
        """Of the log ratio, likewise."""
        r_c = (self.y_t + self.y_c) / (self.n_c + exp(null) * self.n_t)
        r_t = exp(null) * r_c
        return self._variance(r_t, r_c, self._weights / (self.n_t * r_t), self._weights / (self.n_c * r_c))

    def _variance(self, r_t: Floats, r_c: Floats, c_t: Floats, c_c: Floats) -> float:
        """Of Σ ± c (Y − r N), with r and c by stage and arm."""
        factors = np.where(self._treated, c_t, -c_c)
        vectors = np.concatenate([factors, -factors * np.where(self._treated, r_t, r_c)], axis=1)
        return float(np.einsum("gi,gij,gj", vectors, self._products, vectors))

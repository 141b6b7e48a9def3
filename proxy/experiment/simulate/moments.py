"""The gates' estimates and variances from arrays: what `judge` computes bucket by bucket, for many ramps.

A variance is a sum of squares over buckets that are linear in each bucket's sums.  So it follows from the
products of these sums, added up once over the buckets that enter the fine-tuned arm together.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from math import log

import numpy as np

from proxy.experiment.ramp import Totals
from proxy.experiment.simulate.books import REQUESTS, ROWS, StageSums
from proxy.experiment.simulate.requests import Floats


class Moments:
    """The stages' sums over buckets, and those of products of two of them, by group of buckets.

    Group g is the buckets that are fine-tuned from stage g on; the last group's never are.
    """

    def __init__(self, stages: Sequence[StageSums]) -> None:
        rows = np.concatenate([stage.sums for stage in stages])
        edges = [0, *(stage.finetuned for stage in stages), rows.shape[1]]
        groups = [rows[:, low:high] for low, high in pairwise(edges)]
        self.stages, self._columns = stages, rows.shape[1]
        self._groups = groups
        sums = np.cumsum([group.sum(axis=1) for group in groups], axis=0).reshape(-1, len(stages), ROWS)
        places = np.arange(len(stages))
        self.treated: Floats = sums[places, places]  # stage × row
        self.control: Floats = sums[-1] - self.treated

    @cached_property
    def products(self) -> Floats:
        """Group × row of a stage × row of a stage."""
        return np.array([group @ group.T for group in self._groups])

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
        treated, control = np.zeros(self._columns), np.zeros(self._columns)
        for stage in self.stages:
            treated[: stage.finetuned] += stage.sums[row, : stage.finetuned]
            control[stage.finetuned :] += stage.sums[row, stage.finetuned :]
        return treated, control


class Arms:
    """One metric, Y/N with N the requests, in stages where both arms have some."""

    def __init__(self, moments: Moments, row: int, *, relative: bool) -> None:
        self._moments, self._row, self._relative = moments, row, relative
        columns = [arm[:, each].tolist() for arm in (moments.treated, moments.control) for each in (row, REQUESTS)]
        sums = zip(*columns, strict=True)
        self.totals = [Totals(yt, nt, yc, nc, nt * nc / (nt + nc)) for yt, nt, yc, nc in sums]
        whole = sum(each.weight for each in self.totals)
        self._weights = [each.weight / whole for each in self.totals]

    @property
    def baseline(self) -> float:
        """Its rate, the stages weighted alike."""
        return sum(weight * each.yc / each.nc for weight, each in zip(self._weights, self.totals, strict=True))

    @property
    def estimate(self) -> float:
        """The difference of the rates, or of their logarithms."""
        rates = [each.rates(self._relative) for each in self.totals]
        harms = [log(treated / control) if self._relative else treated - control for treated, control in rates]
        return sum(weight * harm for weight, harm in zip(self._weights, harms, strict=True))

    def variance(self, null: float) -> float:
        """Of the estimate, were the truth `null`."""
        number = len(self.totals)
        factors = np.empty((4, number))  # of Y and N in the fine-tuned arm, then in the baseline
        for place, (weight, each) in enumerate(zip(self._weights, self.totals, strict=True)):
            treated, control = each.rates_under(null, self._relative)
            in_treated, in_control = weight / each.nt, -weight / each.nc
            if self._relative:
                in_treated, in_control = in_treated / treated, in_control / control
            factors[:, place] = in_treated, -in_treated * treated, in_control, -in_control * control
        places = np.arange(number)
        treated_in = places >= np.arange(number + 1)[:, None]  # group × stage: it is fine-tuned then
        vectors = np.concatenate([np.where(treated_in, factors[kind], factors[kind + 2]) for kind in (0, 1)], axis=1)
        rows = np.concatenate([places * ROWS + self._row, places * ROWS + REQUESTS])
        products = self._moments.products[:, rows[:, None], rows]
        return float(np.einsum("gi,gij,gj", vectors, products, vectors))

"""The difference between the arms over a ramp: within each stage, then over the stages (STATISTICS.md B, D).  Pure.

Stages are compared with themselves only, so a week that gets worse is no effect of the fine-tune, whose
share grew meanwhile.  A bucket has one residual over all stages, so one that moves from control to treatment
is one cluster still.  Sources: weights and linearisation as in W. G. Cochran, "Sampling Techniques", 3rd ed.,
ch. 5 and 6; one sum of residuals per cluster as in K.-Y. Liang, S. L. Zeger, Biometrika 73 (1986).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import NamedTuple

from proxy.experiment.ratio import Arm

# Relative: a rate counts as this share of the other arm's at least, so that a model that is free has a logarithm.
_FREE = 0.001


class Stratum(NamedTuple):
    """One metric of both arms in one stage."""

    treated: Arm
    control: Arm


class Totals(NamedTuple):
    """A stage's sums, and its weight N_T·N_C/(N_T+N_C)."""

    yt: float
    nt: float
    yc: float
    nc: float
    weight: float

    def rates(self, relative: bool) -> tuple[float, float]:
        """Treated, control."""
        treated, control = self.yt / self.nt, self.yc / self.nc
        return (max(treated, _FREE * control), max(control, _FREE * treated)) if relative else (treated, control)

    def rates_under(self, null: float, relative: bool) -> tuple[float, float]:
        """Treated, control, were their true difference `null`."""
        if relative:
            factor = exp(null)
            control = (self.yt + self.yc) / (self.nc + factor * self.nt)
            return factor * control, control
        control = (self.yt + self.yc - null * self.nt) / (self.nt + self.nc)
        return control + null, control


@dataclass(frozen=True, slots=True)
class Difference:
    """Treated minus control, or the logarithm of their ratio; positive where the treated rate is higher."""

    estimate: float
    clusters: int  # distinct buckets of both arms
    arms: tuple[int, int]  # buckets with data: treated, control; one that moved is in both
    treated: float  # the arms' rates with the stages weighted alike: their difference, or the
    control: float  # logarithm of their ratio, is the estimate
    weights: tuple[float, ...]  # by stage; 0 where it has one arm only
    strata: Sequence[Stratum]
    totals: Sequence[Totals]
    relative: bool

    def variance(self, null: float | None = None) -> float:
        """Of the estimate: for reports, or with residuals under a true difference of `null`, for tests."""
        whole = sum(self.weights)
        psi = [0.0] * (1 + max(max(max(side.buckets, default=0) for side in stratum) for stratum in self.strata))
        for stratum, totals in zip(self.strata, self.totals, strict=True):
            if not totals.weight:
                continue
            rates = totals.rates(self.relative) if null is None else totals.rates_under(null, self.relative)
            share = totals.weight / whole
            for arm, rate, factor in zip(stratum, rates, (share / totals.nt, -share / totals.nc), strict=True):
                scale = factor / rate if self.relative else factor
                level = scale * rate
                for bucket, y, n in zip(arm.buckets, arm.y, arm.n, strict=True):
                    psi[bucket] += scale * y - level * n
        return sum([value * value for value in psi if value])


def difference(strata: Sequence[Stratum], *, relative: bool = False) -> Difference | None:
    """The stratified difference of the rates Y/N, or of their logarithms where `relative`.

    A stage with one arm only says nothing; nor does one without any Y where `relative`.  None where no stage
    says anything.
    """
    totals = [_totals(stratum, relative) for stratum in strata]
    used = [(stratum, each) for stratum, each in zip(strata, totals, strict=True) if each.weight]
    if not used:
        return None
    whole = sum(each.weight for each in totals)
    treated_mean = control_mean = 0.0
    for _, each in used:
        pair = each.rates(relative)
        treated_mean += each.weight / whole * (log(pair[0]) if relative else pair[0])
        control_mean += each.weight / whole * (log(pair[1]) if relative else pair[1])
    treated = set[int]().union(*(stratum.treated.buckets for stratum, _ in used))
    control = set[int]().union(*(stratum.control.buckets for stratum, _ in used))
    return Difference(
        treated_mean - control_mean,
        len(treated | control),
        (len(treated), len(control)),
        exp(treated_mean) if relative else treated_mean,
        exp(control_mean) if relative else control_mean,
        tuple(each.weight for each in totals),
        strata,
        totals,
        relative,
    )


def _totals(stratum: Stratum, relative: bool) -> Totals:
    yt, nt, yc, nc = (float(sum(column)) for arm in stratum for column in (arm.y, arm.n))
    silent = not nt or not nc or (relative and yt + yc <= 0)
    return Totals(yt, nt, yc, nc, 0.0 if silent else nt * nc / (nt + nc))

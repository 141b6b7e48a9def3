"""Bounds that hold however often somebody looks, and the p-values that go with them (STATISTICS.md C).  Pure.

An asymptotic confidence sequence: a normal mixture over the effect, tightest when about `planned` clusters have
been seen.  Source: I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences", Annals of Statistics 52(6), 2024, equations 9 and 134.

Variances are of the estimate, `clusters` are buckets of both arms, alpha is between 0 and ½.
"""

from math import exp, expm1, inf, log, log1p, sqrt

ALPHA = 0.05
PLANNED = 1500  # clusters at which the bounds are tightest


def two_sided(variance: float, clusters: int, alpha: float = ALPHA, planned: float = PLANNED) -> float:
    """Half the width of the interval that misses the truth at any look with chance `alpha`; infinite without data."""
    q = _mixture(clusters, alpha, planned)
    return _half(variance, q, log(sqrt(q + 1.0) / alpha))


def one_sided(variance: float, clusters: int, alpha: float = ALPHA, planned: float = PLANNED) -> float:
    """How far a one-sided bound is from the estimate, at chance `alpha` over all looks; infinite without data."""
    q = _mixture(clusters, 2.0 * alpha, planned)
    return _half(variance, q, log1p(sqrt(q + 1.0) / (2.0 * alpha)))


def p_value(distance: float, variance: float, clusters: int, alpha: float = ALPHA, planned: float = PLANNED) -> float:
    """Of the estimate being `distance` away from the null in either direction.

    At most `alpha` exactly where `two_sided` excludes the null.  Its running minimum is valid too.
    """
    q = _mixture(clusters, alpha, planned)
    return min(1.0, sqrt(q + 1.0) * exp(-_exponent(abs(distance), variance, q)))


def p_value_above(
    distance: float, variance: float, clusters: int, alpha: float = ALPHA, planned: float = PLANNED
) -> float:
    """Of the estimate being `distance` above the null; 1 where it is below.

    At most `alpha` exactly where `one_sided`'s lower bound is at or above the null.  Its running minimum is valid too.
    """
    q = _mixture(clusters, 2.0 * alpha, planned)
    exponent = _exponent(distance, variance, q) if distance > 0.0 else 0.0
    if exponent == 0.0:
        return 1.0
    return min(1.0, sqrt(q + 1.0) / 2.0 * exp(-exponent) / -expm1(-exponent))


def _mixture(clusters: int, alpha: float, planned: float) -> float:
    """How many clusters there are, in units of the mixture's own scale."""
    return clusters * (-2.0 * log(alpha) + log1p(-2.0 * log(alpha))) / planned


def _half(variance: float, q: float, evidence: float) -> float:
    return sqrt(variance * 2.0 * (q + 1.0) / q * evidence) if q > 0.0 else inf


def _exponent(distance: float, variance: float, q: float) -> float:
    if variance <= 0.0:
        return inf if distance else 0.0
    return q / (q + 1.0) * distance * distance / (2.0 * variance)

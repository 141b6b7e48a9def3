"""Medians and percentiles of what was measured."""

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, `share` in 0 … 1; raises ValueError on no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median_and_range(key: str, values: Sequence[float]) -> dict[str, float]:
    """`key`, `key_min` and `key_max` of a result row."""
    return {key: statistics.median(values), f"{key}_min": min(values), f"{key}_max": max(values)}

"""Sample-ratio mismatch: whether people came into the arms as the split says (STATISTICS.md F).

It may be looked at as often as one likes.  Source: M. Lindon, A. Malek, "Anytime-valid inference for
multinomial count data", NeurIPS 2022.  Pure.
"""

from collections.abc import Iterable
from math import exp, lgamma, log

from proxy.experiment.evidence import Exposed

CONCENTRATION = 1000.0


def log_bayes_factor(counts: tuple[int, int], share: float, concentration: float = CONCENTRATION) -> float:
    """Evidence in nats that people are not split `share` to the first arm; negative: that they are."""
    total = lgamma(concentration) - lgamma(concentration + sum(counts))
    for count, expected in zip(counts, (share, 1.0 - share), strict=True):
        total += lgamma(concentration * expected + count) - lgamma(concentration * expected) - count * log(expected)
    return total


def p_value(exposed: Iterable[Exposed], previous: float = 1.0, concentration: float = CONCENTRATION) -> float:
    """The smallest so far, `previous` being the last look's; stages at 0 and 100 % have nothing to split."""
    evidence = sum(
        log_bayes_factor((stage.finetuned, stage.baseline), stage.percentage / 100.0, concentration)
        for stage in exposed
        if 0.0 < stage.percentage < 100.0
    )
    return min(previous, exp(-max(0.0, evidence)))

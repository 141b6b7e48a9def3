"""The sample-ratio test; golden numbers of STATISTICS.md and scipy's distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import dirichlet_multinomial, multinomial

from proxy.experiment.evidence import Exposed
from proxy.experiment.srm import log_bayes_factor, p_value


def test_golden_p_values() -> None:
    finetuned, baseline, p, found = 0, 0, 1.0, []
    for more in ((90, 10), (180, 25), (900, 130), (9000, 1190)):
        finetuned, baseline = finetuned + more[0], baseline + more[1]
        p = p_value([Exposed(90.0, finetuned, baseline)], p, concentration=10_000)
        found.append(p)
    assert found == [1.0, 1.0, pytest.approx(0.66528, abs=5e-6), pytest.approx(5.1246e-05, abs=5e-10)]


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (0, 40), (12, 95), (1300, 9000)])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_bayes_factor_is_the_ratio_of_scipys_two_likelihoods(counts: tuple[int, int], share: float) -> None:
    n, shares = sum(counts), np.array([share, 1 - share])
    theirs = dirichlet_multinomial.logpmf(counts, 1000 * shares, n) - multinomial.logpmf(counts, n, shares)
    assert log_bayes_factor(counts, share) == pytest.approx(theirs, abs=1e-8)


counts = st.integers(0, 5000)


@given(counts, counts, st.floats(0.01, 0.99))
def test_arms_may_be_swapped(finetuned: int, baseline: int, share: float) -> None:
    swapped = log_bayes_factor((baseline, finetuned), 1 - share)
    assert log_bayes_factor((finetuned, baseline), share) == pytest.approx(swapped, abs=1e-6)


def test_evidence_of_the_stages_adds_up() -> None:
    stages = [Exposed(10.0, 160, 900), Exposed(25.0, 330, 820)]
    alone = [p_value([stage]) for stage in stages]
    assert p_value(stages) == pytest.approx(alone[0] * alone[1])


def test_alarm_stays_when_later_people_even_it_out() -> None:
    alarm = p_value([Exposed(50.0, 700, 400)])
    assert alarm < 0.001
    assert p_value([Exposed(50.0, 5000, 5000)], alarm) == alarm


def test_stages_with_one_arm_have_nothing_to_split() -> None:
    assert p_value([Exposed(0.0, 0, 500), Exposed(100.0, 500, 3)]) == 1

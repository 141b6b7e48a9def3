from math import isnan

import numpy as np

from proxy.experiment.simulate.books import Books
from proxy.experiment.simulate.decide import Move
from proxy.experiment.simulate.judged import judged
from proxy.policy.config_rollout import RolloutConfig
from tests.experiment.test_books import THRESHOLDS, answers


def test_look_is_the_verdict_of_what_the_store_would_have() -> None:
    books = Books(np.array([5, 5000]), THRESHOLDS)
    books.begin(10)
    books.add(answers((0, True, True, False, 1.0, 0.1), (1, False, False, False, 1.0, 0.1)))
    look = judged(books, RolloutConfig(), 3600.0, 0.7)
    assert look.move is Move.STAY
    assert look.srm_p <= 0.7
    gates = {gate.gate: gate for gate in look.gates}
    assert (gates["success"].enough, gates["success"].estimate) == (False, -1.0)
    assert gates["feedback"].move is Move.ON
    assert isnan(gates["feedback"].estimate)

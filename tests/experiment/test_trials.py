"""Many ramps are the same on one core and on several."""

import numpy as np
import pytest

from proxy.experiment.simulate import trials
from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.recorded import Record, RecordedCrowd
from proxy.experiment.simulate.trials import Recorded, Simulation, crowd_of, run_trials
from proxy.policy.config_rollout import RolloutConfig

SIMULATION = Simulation(Traffic(users_per_day=60), RolloutConfig(), Course(days=2, looks=2), seed=3)


def test_processes_change_nothing_and_each_ramp_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    alone = run_trials(SIMULATION, Effect(-0.3), 25, steps.append)
    assert steps == [10, 10, 5]
    monkeypatch.setattr(trials, "WORTH_A_PROCESS", 1)
    assert run_trials(SIMULATION, Effect(-0.3), 25, lambda _: None) == alone
    assert len({trial.exposed for trial in alone}) > 5


def test_crowd_is_drawn_or_recorded() -> None:
    rng = np.random.default_rng(1)
    record = Record(np.array([0, 1, 2]), np.zeros(2), np.zeros(2, bool), np.ones(2), np.ones(2), 1, 2.0)
    recorded = Simulation(Recorded("qa_agent", record, 7), SIMULATION.rollout, SIMULATION.course, 1)
    crowd = crowd_of(rng, recorded)
    assert isinstance(crowd, RecordedCrowd)
    assert len(crowd.buckets) == 7
    assert len(crowd_of(rng, SIMULATION).buckets) == 60 + 2 * 24

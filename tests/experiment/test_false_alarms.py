"""The A/A picture: users whom nothing divides, split at random and by the salt."""

from random import Random

import pytest

from proxy.experiment.evidence import BucketSums, Stage, Thresholds
from proxy.experiment.false_alarms import FalseAlarms, false_alarms
from proxy.experiment.verdict import Outcome
from proxy.policy.config_rollout import RolloutConfig

THRESHOLDS = Thresholds(4.0, 10.0, 0.5, 0.0)


def observed(users: int, *, bad: range = range(0), seed: int = 1) -> Stage:
    """One user a bucket; those in `bad` fail half of the time."""
    rng = Random(seed)
    rows = []
    for bucket in sorted(rng.sample(range(10_000), users)):
        requests = 1 + int(rng.paretovariate(1.2))
        failing = 0.5 if bucket in bad else 0.02
        ok = sum(rng.random() >= failing for _ in range(requests))
        rows.append(BucketSums(bucket, False, requests, ok, ok, 0, 0, 2.0 * requests, 0.01 * requests, 0, 0.0))
    return Stage(0.0, tuple(rows))


def picture(stage: Stage, relabelings: int = 20, seed: int = 1, **gates: object) -> FalseAlarms:
    rollout = RolloutConfig.model_validate({"ramp": [20, 100], "gates": gates})
    return false_alarms(stage, rollout, THRESHOLDS, relabelings, seed)


def test_users_alike_raise_no_alarm_and_easy_gates_pass() -> None:
    found = picture(observed(700), success={"kind": "guardrail", "margin": "-9pp"})
    assert (found.rolled_back, found.relabelings, found.percentage, found.buckets) == (0, 20, 20.0, 700)
    gates = {gate.gate: gate for gate in found.gates}
    assert gates["success"].passes > 12
    assert all(gate.fails + gate.passes + gate.holds == 20 for gate in found.gates)
    assert found.thresholds == THRESHOLDS


def test_every_relabeling_is_another_split_and_the_seed_repeats_it() -> None:
    stage = observed(600, seed=3)
    tight = {"kind": "guardrail", "margin": "-5pp"}
    assert picture(stage, success=tight) == picture(stage, success=tight)
    assert 0 < picture(stage, success=tight).gates[0].passes < 20


def test_split_to_come_is_the_salts() -> None:
    found = picture(observed(900, bad=range(2000)))
    coming = {gate.gate: gate for gate in found.coming}
    assert coming["success"].outcome is Outcome.FAIL, "these users are worse off, whoever serves them"
    assert coming["success"].estimate == pytest.approx(0.48, abs=0.1)
    assert found.rolled_back <= 2, "random splits are not"


def test_too_few_users_hold_for_want_of_data_and_each_step_is_told() -> None:
    steps: list[None] = []
    rollout = RolloutConfig()
    found = false_alarms(observed(50), rollout, None, 3, step=lambda: steps.append(None))
    gates = {gate.gate: gate for gate in found.gates}
    assert (gates["success"].holds, gates["success"].short) == (3, 3)
    assert (gates["cost"].short, gates["feedback"].passes) == (3, 3)
    assert len(steps) == 3

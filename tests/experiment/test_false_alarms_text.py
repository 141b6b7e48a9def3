import json

from proxy.experiment.false_alarms import false_alarms
from proxy.experiment.false_alarms_text import json_of, lines_of
from proxy.policy.config_rollout import RolloutConfig
from tests.experiment.test_false_alarms import THRESHOLDS, observed

FOUND = false_alarms(observed(700), RolloutConfig.model_validate({"ramp": [20, 100]}), THRESHOLDS, 10)


def test_lines_say_what_was_frozen_how_often_it_is_wrong_and_what_comes() -> None:
    lines = list(lines_of(FOUND))
    assert lines[0].startswith("observed at 0 %: ")
    assert lines[0].endswith(" requests in 700 buckets of users; 10 random splits into 20 % and 80 %")
    assert "slow is above 4.000 s (its p95); tails count up to 10.000 s and $0.500000 (its p99.5)" in lines[1]
    assert lines[2] == "false alarms: 0.0 % of the splits would have been rolled back"
    assert lines[4].split()[:4] == ["gate", "fails", "passes", "holds"]
    assert [line.split()[0] for line in lines[5:]] == [gate.gate for gate in FOUND.gates]
    assert " pp (" in lines[5]


def test_json_has_shares_and_the_split_to_come() -> None:
    told = json.loads(json.dumps(json_of(FOUND)))
    assert (told["rolled_back"], told["relabelings"], told["thresholds"]["tau"]) == (0.0, 10, 4.0)
    success = told["gates"][0]
    assert success["fails"] + success["passes"] + success["holds"] == 1
    assert success["coming"]["outcome"] in ("pass", "hold")
    assert success["coming"]["lower"] < success["coming"]["estimate"] < success["coming"]["upper"]


def test_nothing_frozen_is_said() -> None:
    found = false_alarms(observed(200), RolloutConfig(), None, 1)
    assert list(lines_of(found))[1] == "nothing is frozen yet: the baseline has too few requests"
    assert json_of(found)["thresholds"] is None

"""Where percentages are written."""

from pathlib import Path

import pytest

from proxy.experiment.percentages import FixedPercentage, changes_for
from proxy.policy.load import LoadedPolicy, read_policy

TEXT = """
upstreams: {{up: {{base_url: "http://a"}}}}
agents:
  a: {{fine_tuned: ft:a, fallback: m}}
  b: {{fine_tuned: ft:b, fallback: m{own}}}
{rest}
"""
SHARED = ("ab_testing", "rollout_percentage")
A, B = (("agents", name, "rollout_percentage") for name in "ab")


def policy(folder: Path, own: str = "", rest: str = "", **env: str) -> LoadedPolicy:
    path = folder / "p.yaml"
    path.write_text(TEXT.format(own=own, rest=rest))
    return read_policy(path, env)


def test_all_agents_to_one_value_is_the_shared_percentage(tmp_path: Path) -> None:
    assert changes_for(policy(tmp_path), {"a": 25.0, "b": 25.0}) == {SHARED: 25.0}


def test_some_agents_or_several_values_are_the_agents_own(tmp_path: Path) -> None:
    loaded = policy(tmp_path)
    assert changes_for(loaded, {"a": 25.0}) == {A: 25.0}
    assert changes_for(loaded, {"a": 25.0, "b": 50.0}) == {A: 25.0, B: 50.0}


def test_where_one_agent_has_its_own_the_others_get_theirs(tmp_path: Path) -> None:
    assert changes_for(policy(tmp_path, ", rollout_percentage: 0"), {"a": 25.0, "b": 25.0}) == {A: 25.0, B: 25.0}


def test_agents_that_are_there_already_are_not_written(tmp_path: Path) -> None:
    assert changes_for(policy(tmp_path), {"a": 10.0, "b": 25.0}) == {B: 25.0}
    assert changes_for(policy(tmp_path), {"a": 10.0}) == {}


def test_shared_percentage_from_outside_is_left_alone(tmp_path: Path) -> None:
    loaded = policy(tmp_path, rest="ab_testing: {rollout_percentage: '${SHARE}'}", SHARE="5")
    assert changes_for(loaded, {"a": 25.0, "b": 25.0}) == {A: 25.0, B: 25.0}


def test_own_percentage_from_outside_is_an_error(tmp_path: Path) -> None:
    loaded = policy(tmp_path, ", rollout_percentage: '${SHARE}'", SHARE="5")
    with pytest.raises(FixedPercentage, match=r"agents\.b\.rollout_percentage comes through"):
        changes_for(loaded, {"b": 25.0})


@pytest.mark.parametrize("switch", ["models: {use_finetuned: false}", "ab_testing: {enabled: false}"])
def test_switch_that_makes_percentages_idle_is_an_error(tmp_path: Path, switch: str) -> None:
    with pytest.raises(FixedPercentage, match="whatever the percentage"):
        changes_for(policy(tmp_path, rest=switch), {"a": 25.0})

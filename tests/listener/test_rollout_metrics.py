"""Rollout metrics, from what the store says to what Prometheus scrapes."""

import pytest

from proxy.experiment import memory
from proxy.experiment.actions import FAILED, Action
from proxy.experiment.evidence import Hold
from proxy.experiment.judge import SRM
from proxy.ledger.standing import Standing
from proxy.listener.rollout_metrics import rollout_metrics
from proxy.policy.snapshot import Policy
from tests.ledger.records import NOW, opened
from tests.support.lane import FINETUNED, eventually, policy_of, running

SALT = f"qa_agent/{FINETUNED}"


def samples(standing: Standing | None, policy: Policy) -> dict[str, float]:
    """Values by name and last label, of one agent."""
    found = {}
    for family in rollout_metrics(standing, policy):
        for sample in family.samples:
            assert sample.labels.pop("agent") == "qa_agent"
            found[" ".join([sample.name, *sample.labels.values()])] = sample.value
    return found


def plain(**changes: object) -> Policy:
    return policy_of("http://127.0.0.1:1", **changes)


def test_nothing_is_said_before_a_store_was_heard() -> None:
    assert samples(None, plain()) == {}


def test_store_without_a_rollout_has_zeros_and_no_p_value() -> None:
    found = samples(Standing({}, {}, {}), plain())
    assert found.keys() == {
        "splitlane_rollout_held paused",
        "splitlane_rollout_held failed",
        *(f"splitlane_rollout_moves_total {action}" for action in Action),
    }
    assert set(found.values()) == {0.0}


def test_agents_of_the_policy_and_their_current_salt_alone_are_shown() -> None:
    standing = Standing(
        {"qa_agent": FAILED, "gone_agent": FAILED},
        {("qa_agent", "rollback"): 2, ("gone_agent", "rollback"): 1},
        {("qa_agent", SALT): 0.25, ("qa_agent", "of the model before"): 1e-9, ("gone_agent", SALT): 1e-9},
    )
    found = samples(standing, plain())
    assert {name: value for name, value in found.items() if value} == {
        "splitlane_rollout_held failed": 1,
        "splitlane_rollout_moves_total rollback": 2,
        "splitlane_srm_p": 0.25,
    }


@pytest.mark.alone  # the writer runs when nobody else wants to
async def test_proxy_shows_what_a_controller_left_in_the_store_and_keeps_it_while_the_store_is_away(
    store_url: str,
) -> None:
    with opened(store_url) as database:
        memory.put_hold(database, "qa_agent", Hold(FAILED, "worse", NOW), "controller")
        decision = memory.Decision("018f", NOW, "qa_agent", SALT, 25.0, Action.ROLLBACK, 0.0, (), "controller", {})
        memory.record(database, decision)
        memory.keep_p_values(database, "qa_agent", SALT, {SRM: 0.125})
    policy = plain(store={"url": store_url, "unit_key": "k" * 32})
    expected = {
        "splitlane_rollout_held failed": 1,
        "splitlane_rollout_moves_total rollback": 1,
        "splitlane_srm_p": 0.125,
    }
    async with running(policy) as lane:
        await eventually(lambda: lane.service.ledger.standing is not None)
        found = samples(lane.service.ledger.standing, policy)
        assert {name: value for name, value in found.items() if value} == expected
        lane.service.ledger._hear(("away",))
        assert samples(lane.service.ledger.standing, policy) == found

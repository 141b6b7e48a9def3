"""ACCEPTANCE 28: the three switches do to traffic what DESIGN §3.3 says they mean."""

from typing import Any

import pytest

from proxy.stub import Stub
from proxy.stub.config import StubConfig
from tests.integration.asking import ask, chat
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, policy_of, running


@pytest.mark.parametrize(
    ("changes", "models"),
    [
        ({}, (FINETUNED, BASELINE)),
        ({"models": {"use_finetuned": False}}, (BASELINE, BASELINE)),
        ({"models": {"use_finetuned": False}, "ab_testing": {"enabled": False}}, (BASELINE, BASELINE)),
        ({"ab_testing": {"enabled": False}}, (FINETUNED, FINETUNED)),
        ({"ab_testing": {"rollout_percentage": 0}}, (BASELINE, BASELINE)),
        ({"ab_testing": {"rollout_percentage": 100}}, (FINETUNED, FINETUNED)),
        ({"agents": {"qa_agent": {"rollout_percentage": 100}}}, (FINETUNED, FINETUNED)),
        ({"agents": {"qa_agent": {"rollout_percentage": 0}}}, (BASELINE, BASELINE)),
        (
            {"agents": {"qa_agent": {"rollout_percentage": 0}}, "ab_testing": {"enabled": False}},
            (FINETUNED, FINETUNED),
        ),
        (
            {"agents": {"qa_agent": {"rollout_percentage": 100}}, "models": {"use_finetuned": False}},
            (BASELINE, BASELINE),
        ),
    ],
)
async def test_switches_decide_who_is_fine_tuned(changes: dict[str, Any], models: tuple[str, str]) -> None:
    async with Stub() as stub, running(policy_of(stub.url, **changes)) as lane:
        for user in (FINETUNED_USER, BASELINE_USER):
            assert (await ask(lane, chat(user=user))).status == 200
        assert tuple(call.model for call in stub.calls) == models


async def test_everybody_includes_requests_without_a_user() -> None:
    """Staging has no experiment that a request without a user could spoil."""
    async with Stub() as stub, running(policy_of(stub.url, ab_testing={"enabled": False})) as lane:
        assert (await ask(lane, chat(user=None))).status == 200
        assert [call.model for call in stub.calls] == [FINETUNED]


async def test_fallback_switched_off_passes_the_fine_tunes_failure_on() -> None:
    async with (
        Stub(StubConfig(faults={"ft:*": "status=503"})) as stub,
        running(policy_of(stub.url, models={"fallback_enabled": False})) as lane,
    ):
        answer = await ask(lane, chat())
        assert answer.status == 503
        assert answer.head.get(b"x-splitlane-fallback") is None
        assert [call.model for call in stub.calls] == [FINETUNED]

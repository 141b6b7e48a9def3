"""ACCEPTANCE 28: the three switches do to traffic what DESIGN §3.3 says they mean."""

import re
from collections import Counter
from typing import Any

import pytest

from proxy.policy.compile import compile_policy
from proxy.policy.load import parse_policy, policy_hash
from proxy.policy.snapshot import Policy
from proxy.stub import Stub
from proxy.stub.config import StubConfig
from proxy.words import Dialect
from tests.integration.asking import ask, chat
from tests.support.lane import (
    BASELINE,
    BASELINE_USER,
    FINETUNED,
    FINETUNED_USER,
    policy_file,
    policy_of,
    running,
)

USERS = [f"person-{number}" for number in range(200)]


def shipped(name: str, stub: Stub) -> Policy:
    """A policy of the repository with its upstreams' addresses replaced, and nothing else."""
    written = policy_file(f"{name}.yaml").read_text()
    text = re.sub(r"base_url: https?://[^\s,}]+", f"base_url: {stub.url}", written).encode()
    secrets = {"MISTRAL_API_KEY": "sk-live", "SLACK_WEBHOOK_URL": "https://hooks.example/services/x"}
    return compile_policy(parse_policy(text, name, secrets), policy_hash(text))


async def served(policy: Policy, stub: Stub, users: list[str]) -> Counter[str]:
    async with running(policy) as lane:
        for user in users:
            answer = await ask(lane, chat(user=user))
            assert answer.status == 200
            variant = (answer.head.get(b"x-splitlane-variant") or b"").decode()
            assert stub.calls[-1].model == (FINETUNED if variant == "finetuned" else BASELINE)
    return Counter(call.model for call in stub.calls)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("dev", 0, 0), ("staging", len(USERS), len(USERS)), ("production", 5, 40)],
)
async def test_shipped_policy_sends_its_share_to_the_fine_tune(name: str, low: int, high: int) -> None:
    """ACCEPTANCE 28: dev nobody, staging everybody, production ten per cent (20 ± 4.7σ here)."""
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub:
        counted = await served(shipped(name, stub), stub, USERS)
    assert low <= counted[FINETUNED] <= high
    assert counted.total() == len(USERS)


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

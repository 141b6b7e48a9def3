"""DESIGN §3.6: how every agent is served, without asking an upstream."""

import json
from typing import Any

import pytest

from proxy.admin.health import LEAST, symptoms
from proxy.stub import Stub
from proxy.telemetry.recent import Outcomes
from tests.support.lane import BASELINE, FINETUNED_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.rescue import ask

PATIENT = {"breaker": {"failures": 1000}}
OFF = {"brake": {"enabled": False}}


async def health(lane: Lane, agent: str = "") -> tuple[int, dict[str, Any]]:
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", f"/health{agent and '/'}{agent}"))
        answer = await client.read_response()
    return answer.status, json.loads(answer.body)


async def test_agent_without_traffic_is_well() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        nobody = {"requests": 0, "failed": 0, "rescued": 0, "p95_seconds": None, "probe": None}
        agent = {
            "status": "OK", "reasons": [], "percentage": 25.0, "brake": None, "breaker": "closed",
            "finetuned": nobody, "baseline": nobody,
        }  # fmt: skip
        assert await health(lane) == (
            200,
            {
                "status": "healthy",
                "policy": lane.service.exchange.policy.hash,
                "window_seconds": 300.0,
                "agents": {"qa_agent": agent},
            },
        )
        assert await health(lane, "qa_agent") == (200, {"agent": "qa_agent", **agent})
        assert stub.calls == []


async def test_requests_of_both_arms_are_shown() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for user in (FINETUNED_USER, FINETUNED_USER, "user-42"):
            await ask(lane, user=user)
        _, shown = await health(lane, "qa_agent")
        assert (shown["finetuned"]["requests"], shown["baseline"]["requests"]) == (2, 1)
        assert 0 < shown["finetuned"]["p95_seconds"] < 5


async def test_rescued_requests_make_it_an_error_that_is_still_200() -> None:
    """Whoever takes the proxy out of service for it takes the baseline from its users."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=PATIENT, rollout=OFF)) as lane:
        stub.set_fault("ft:*", "status=500")
        for _ in range(LEAST):
            await ask(lane)
        status, shown = await health(lane)
        agent = shown["agents"]["qa_agent"]
        assert (status, shown["status"], agent["status"], agent["reasons"]) == (200, "degraded", "ERROR", ["rescued"])
        assert agent["finetuned"]["rescued"] == LEAST
        assert agent["finetuned"]["failed"] == 0


async def test_open_breaker_is_an_error_at_once() -> None:
    async with Stub() as stub, running(policy_of(stub.url, rollout=OFF)) as lane:
        stub.set_fault("ft:*", "status=500")
        for _ in range(5):
            await ask(lane)
        _, shown = await health(lane, "qa_agent")
        assert (shown["status"], shown["reasons"], shown["breaker"]) == ("ERROR", ["breaker_open"], "open")


async def test_failing_baseline_is_an_error() -> None:
    async with Stub() as stub, running(policy_of(stub.url, fallback={"retry": {"baseline": 0}})) as lane:
        stub.set_fault(BASELINE, "status=500")
        for _ in range(LEAST):
            await ask(lane, user="user-42")
        assert (await health(lane, "qa_agent"))[1]["reasons"] == ["failing"]


async def test_unknown_agent_is_a_404() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for name in ("nobody", "%00", "other"):
            status, shown = await health(lane, name)
            assert (status, shown["error"]["code"]) == (404, "unknown_agent")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (Outcomes(19, 19, 19, 60.0), []),
        (Outcomes(100, 5, 10, 5.0), []),
        (Outcomes(100, 6, 0, 1.0), ["failing"]),
        (Outcomes(100, 0, 11, 1.0), ["rescued"]),
        (Outcomes(100, 0, 0, 5.1), ["slow"]),
        (Outcomes(100, 100, 100, 60.0), ["failing", "rescued", "slow"]),
    ],
)
def test_limits_are_those_of_the_alerts(outcomes: Outcomes, expected: list[str]) -> None:
    assert symptoms(outcomes) == expected

"""STATISTICS.md G: a fine-tune that has failed serves nobody until a person says so."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from proxy.exchange.brake import BRAKING
from proxy.ledger import ledger
from proxy.policy.snapshot import Policy
from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from proxy.words import Assignment, Variant
from tests.integration.streaming import metric
from tests.support.lane import BASELINE, FINETUNED, TOKEN, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.rescue import BODY, STREAM_BODY, ask, assert_rescued, calls_by_model, ours
from tests.support.served import write_policy

# It takes nine failures of a new fine-tune: three a minute of a user count.
NEEDED = 9
USERS = [f"user-{number}" for number in range(NEEDED)]
# A breaker that is never in the brake's way.
PATIENT = {"breaker": {"failures": 1000}}
BRAKED = {"agent": "qa_agent", "variant": "finetuned", "served": BASELINE, "attempts": "1", "fallback": "brake"}


def everybody(stub: Stub, **changes: Any) -> Policy:
    """Everybody is fine-tuned."""
    return policy_of(stub.url, **{"fallback": PATIENT, "ab_testing": {"rollout_percentage": 100}, **changes})


async def trip(lane: Lane, stub: Stub) -> None:
    """Make the fine-tune fail until the brake trips."""
    stub.set_fault("ft:*", "status=500")
    for user in USERS:
        await ask(lane, user=user)
    assert tripped(lane)
    stub.clear_faults()
    stub.calls.clear()


def tripped(lane: Lane) -> bool:
    return "qa_agent" in lane.service.exchange.attempts.brakes.tripped


async def admin(lane: Lane, path: str, method: str = "GET", token: str = "") -> RawResponse:
    fields = [("Authorization", f"Bearer {token}")] if token else []
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request(method, path, b"", fields))
        return await client.read_response()


async def shown(lane: Lane, path: str) -> dict[str, Any]:
    answer = await admin(lane, path)
    assert answer.status == 200
    return dict(json.loads(answer.body))


# --- tripping ---------------------------------------------------------------------------------------


async def test_dead_fine_tune_is_braked_at_the_ninth_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with Stub() as stub, running(everybody(stub)) as lane:
        stub.set_fault("ft:*", "status=500")
        for user in USERS:
            assert not tripped(lane)
            assert_rescued(await ask(lane, user=user), "server_error")
        assert calls_by_model(stub)[FINETUNED] == NEEDED
        stub.clear_faults()
        stub.calls.clear()
        answer = await ask(lane, user=USERS[0])
        record = await lane.record(NEEDED + 1)
        assert ours(answer) == BRAKED
        assert answer.status == 200
        assert calls_by_model(stub) == {BASELINE: 1}
        assert (record.decision.variant, record.decision.assignment) == (Variant.FINETUNED, Assignment.FINETUNED)
        assert record.decision == lane.records[0].decision
        assert (record.served, record.fallback, record.failure) == (BASELINE, "brake", None)
        assert await metric(lane, "splitlane_brake_tripped", agent="qa_agent") == 1
        assert await metric(lane, "splitlane_brake_trips_total", agent="qa_agent") == 1
        assert await metric(lane, "model_fallbacks_total", agent="qa_agent", reason="brake") == 1
        health = await shown(lane, "/health")
        assert health["status"] == "degraded"
        assert health["agents"]["qa_agent"]["reasons"][0] == "brake"
        brake = health["agents"]["qa_agent"]["brake"]
        assert brake["evidence"]["reasons"] == {"server_error": NEEDED}
        assert brake["id"] == lane.records[NEEDED - 1].request_id, "named by the request that tripped it"
        assert (await shown(lane, "/policy"))["brakes"] == {"kept_in": "process", "tripped": {"qa_agent": brake}}
    (line,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert "qa_agent" in line.getMessage()


async def test_sound_fine_tune_is_not_braked() -> None:
    async with Stub() as stub, running(everybody(stub)) as lane:
        for user in USERS * 2:
            assert ours(await ask(lane, user=user))["served"] == FINETUNED
        assert await metric(lane, "splitlane_brake_tripped", agent="qa_agent") == 0
        assert await metric(lane, "splitlane_brake_trips_total", agent="qa_agent") == 0
        assert (await shown(lane, "/health"))["status"] == "healthy"


async def test_streams_that_break_after_their_commit_count() -> None:
    async with Stub() as stub, running(everybody(stub)) as lane:
        stub.set_fault("ft:*", "cut=3")
        for user in USERS:
            assert not (await ask(lane, STREAM_BODY, user=user)).clean_end
            await lane.idle()
        assert tripped(lane)
        assert lane.records[0].failure in BRAKING
        assert ours(await ask(lane, STREAM_BODY))["fallback"] == "brake"


async def test_retried_success_is_a_failed_first_attempt() -> None:
    retry = {**PATIENT, "retry": {"finetuned": 1}, "retry_budget": {"min": 100}}
    quick = {"brake": {"odds": 10}}
    async with Stub() as stub, running(everybody(stub, fallback=retry, rollout=quick)) as lane:
        for user in USERS[:2]:
            assert not tripped(lane)
            stub.set_fault("ft:*", "status=500,count=1")
            assert ours(await ask(lane, user=user)) == {
                "agent": "qa_agent", "variant": "finetuned", "served": FINETUNED, "attempts": "2",
            }  # fmt: skip
        assert tripped(lane)


async def test_brake_is_no_fallback_that_could_be_switched_off() -> None:
    async with Stub() as stub, running(everybody(stub, models={"fallback_enabled": False})) as lane:
        await trip(lane, stub)
        assert ours(await ask(lane)) == BRAKED


async def test_override_is_braked_too() -> None:
    identity = {"allow_override": True}
    async with Stub() as stub, running(everybody(stub, identity=identity)) as lane:
        await trip(lane, stub)
        assert ours(await ask(lane, headers=[("X-Splitlane-Variant", "finetuned")])) == BRAKED
        assert calls_by_model(stub) == {BASELINE: 1}


async def test_brake_is_one_agents_alone() -> None:
    other = {"fine_tuned": "ft:other", "fallback": BASELINE}
    async with Stub() as stub, running(everybody(stub, agents={"legal_agent": other})) as lane:
        await trip(lane, stub)
        async with RawClient(lane.host, lane.port) as client:
            fields = [("X-Agent", "legal_agent"), ("X-User-Id", USERS[0])]
            await client.send(request("POST", "/v1/chat/completions", BODY, fields))
            assert ours(await client.read_response())["served"] == "ft:other"


@pytest.mark.parametrize("fault", ["context_length", "content_filter", "auth", "status=400"])
async def test_clients_mistakes_trip_no_brake(fault: str) -> None:
    async with Stub() as stub, running(everybody(stub)) as lane:
        stub.set_fault("ft:*", fault)
        for user in USERS:
            await ask(lane, user=user)
        assert not tripped(lane)


async def test_open_breaker_counts_nothing() -> None:
    breaker = {"breaker": {"failures": 3, "open": "30s"}}
    async with Stub() as stub, running(everybody(stub, fallback=breaker)) as lane:
        stub.set_fault("ft:*", "status=500")
        for user in USERS * 2:
            await ask(lane, user=user)
        assert calls_by_model(stub)[FINETUNED] == 3
        assert not tripped(lane)


async def test_one_looping_client_trips_no_brake() -> None:
    async with Stub() as stub, running(everybody(stub)) as lane:
        stub.set_fault("ft:*", "status=500")
        for _ in range(NEEDED * 2):
            await ask(lane, user=USERS[0])
        assert not tripped(lane)


async def test_outage_of_both_models_trips_no_brake() -> None:
    fallback = {**PATIENT, "retry": {"baseline": 0}}
    async with Stub() as stub, running(everybody(stub, fallback=fallback)) as lane:
        stub.set_fault("*", "status=500")
        for user in USERS * 3:
            await ask(lane, user=user)
        assert not tripped(lane)


async def test_brake_that_is_switched_off_never_trips() -> None:
    off = {"brake": {"enabled": False}}
    async with Stub() as stub, running(everybody(stub, rollout=off)) as lane:
        stub.set_fault("ft:*", "status=500")
        for user in USERS * 2:
            await ask(lane, user=user)
        assert not tripped(lane)


# --- staying, sharing, clearing -----------------------------------------------------------------------


async def clear(lane: Lane, agent: str = "qa_agent", token: str = TOKEN) -> tuple[int, dict[str, Any]]:
    answer = await admin(lane, f"/rollout/clear?agent={agent}", "POST", token)
    return answer.status, json.loads(answer.body)


async def test_person_with_the_token_clears_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with Stub() as stub, running(everybody(stub)) as lane:
        await trip(lane, stub)
        for token in ("", "wrong"):
            status, told = await clear(lane, token=token)
            assert (status, told["error"]["code"]) == (401, "wrong_admin_token")
        assert tripped(lane)
        status, told = await clear(lane, "nobody")
        assert (status, told["error"]["code"]) == (404, "unknown_agent")
        assert (await admin(lane, "/rollout/clear", "POST", TOKEN)).status == 400
        status, told = await clear(lane)
        assert (status, told["agent"], told["cleared"]) == (200, "qa_agent", True)
        assert told["brake"]["evidence"]["failures"] == NEEDED
        assert ours(await ask(lane))["served"] == FINETUNED
        assert await metric(lane, "splitlane_brake_tripped", agent="qa_agent") == 0
        assert await metric(lane, "splitlane_brake_trips_total", agent="qa_agent") == 1
        assert await clear(lane) == (200, {"agent": "qa_agent", "cleared": False, "brake": None})
        await trip(lane, stub)
    told_in_log = [entry.getMessage() for entry in caplog.records if "cleared" in entry.getMessage()]
    assert told_in_log == ["brake of qa_agent: cleared by admin listener, 127.0.0.1"]


async def test_reload_neither_clears_nor_weakens_it(tmp_path: Path) -> None:
    async with Stub() as stub:
        path = write_policy(tmp_path, stub.url, fallback=PATIENT, ab_testing={"rollout_percentage": 100})
        async with running(PolicyStore(path, {})) as lane:
            await trip(lane, stub)
            write_policy(tmp_path, stub.url, ab_testing={"enabled": False}, rollout={"brake": {"enabled": False}})
            assert (await admin(lane, "/policy/reload", "POST", TOKEN)).status == 200
            assert ours(await ask(lane)) == BRAKED
            assert calls_by_model(stub) == {BASELINE: 1}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A file; a busy machine is given time to open it."""
    monkeypatch.setattr(ledger, "OPEN_WITHIN", 10.0)
    return {"url": f"sqlite:///{tmp_path}/splitlane.db"}


async def test_brake_outlives_the_process_and_holds_from_the_first_request(store: dict[str, str]) -> None:
    async with Stub() as stub:
        policy = everybody(stub, store=store)
        async with running(policy) as lane:
            await trip(lane, stub)
            before = (await shown(lane, "/policy"))["brakes"]
        async with running(policy) as lane:
            assert ours(await ask(lane)) == BRAKED
            assert calls_by_model(stub) == {BASELINE: 1}
            assert (await shown(lane, "/policy"))["brakes"] == before
            assert before["kept_in"] == "sqlite"
            assert await metric(lane, "splitlane_brake_tripped", agent="qa_agent") == 1
            assert (await clear(lane))[0] == 200
        async with running(policy) as lane:
            assert ours(await ask(lane))["served"] == FINETUNED


async def test_proxies_that_share_a_store_share_the_brake(store: dict[str, str]) -> None:
    async with Stub() as stub:
        policy = everybody(stub, store=store)
        async with running(policy) as one, running(policy) as other:
            await trip(one, stub)
            await eventually(lambda: tripped(other))
            assert ours(await ask(other)) == BRAKED
            assert await metric(other, "splitlane_brake_trips_total", agent="qa_agent") == 0
            assert (await clear(other))[0] == 200
            assert ours(await ask(other))["served"] == FINETUNED
            await eventually(lambda: not tripped(one))
            assert ours(await ask(one))["served"] == FINETUNED

"""ACCEPTANCE 17: bodies beyond the memory for them, fallback switched off, a fine-tune dead for all."""

import asyncio
import json

import pytest

from proxy.stub import Stub, StubConfig
from tests.support.lane import BASELINE, FINETUNED, FINETUNED_USER, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.rescue import BODIES, BODY, CHAT, QUICK, ask, calls_by_model, chat, ours

LIMITS = {"max_body": "1MiB", "max_buffered": "1MiB"}


def sized(size: int) -> bytes:
    """A chat body of that many bytes."""
    opening, closing = b'{"messages":[{"role":"user","content":"', b'"}]}'
    return opening + b"x" * (size - len(opening) - len(closing)) + closing


async def buffered_bytes(lane: Lane) -> float:
    """What a scrape says is held."""
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", "/metrics"))
        lines = (await client.read_response()).body.decode().splitlines()
    return float(next(line for line in lines if line.startswith("splitlane_buffered_bytes ")).split()[1])


def assert_overload(answer: RawResponse) -> None:
    assert answer.status == 503
    assert int(answer.head.get(b"retry-after") or 0) >= 1
    assert json.loads(answer.body)["error"]["code"] == "overload"


async def test_bodies_past_max_buffered_are_refused_until_there_is_room() -> None:
    """ACCEPTANCE 17: 503 with `retry-after`; what was held is given back."""
    async with (
        Stub(StubConfig(faults={"*": "slow=1"})) as stub,
        running(policy_of(stub.url, limits=LIMITS)) as lane,
    ):
        big = sized(400_000)
        held = [asyncio.ensure_future(ask(lane, big)) for _ in range(2)]
        await eventually(lambda: len(stub.calls) == 2)
        assert await buffered_bytes(lane) == 800_000
        refused = await asyncio.gather(*(ask(lane, big) for _ in range(10)))
        for answer in refused:
            assert_overload(answer)
        assert await buffered_bytes(lane) == 800_000
        small = asyncio.ensure_future(ask(lane))  # still fits
        assert [answer.status for answer in await asyncio.gather(*held, small)] == [200] * 3
        await lane.idle()
        assert await buffered_bytes(lane) == 0
        stub.clear_faults()
        assert (await ask(lane, big)).status == 200
        assert len(stub.calls) == 4
    assert {(r.status, r.failure) for r in lane.records} == {(200, None), (503, "overload")}


async def test_chunked_bodies_count_as_they_arrive() -> None:
    """ACCEPTANCE 17: no length is announced, so none can be refused up front."""
    async with (
        Stub(StubConfig(faults={"*": "slow=1"})) as stub,
        running(policy_of(stub.url, limits=LIMITS)) as lane,
    ):
        held = asyncio.ensure_future(ask(lane, sized(700_000)))
        await eventually(lambda: len(stub.calls) == 1)
        fields = [("X-Agent", "qa_agent"), ("X-User-Id", FINETUNED_USER), ("Transfer-Encoding", "chunked")]
        async with RawClient(lane.host, lane.port) as client:
            await client.send(request("POST", CHAT, headers=fields))
            for _ in range(5):
                await client.send(b"186a0\r\n" + b" " * 100_000 + b"\r\n")  # 0x186a0: 100,000
            assert_overload(await client.read_response())
        assert (await held).status == 200
        await lane.idle()
        assert await buffered_bytes(lane) == 0
        assert len(stub.calls) == 1


@pytest.mark.parametrize("fault", ["status=500", "status=400", "reset", "null"])
async def test_held_bytes_are_given_back_whatever_the_end(fault: str) -> None:
    """ACCEPTANCE 17."""
    retry = {"retry": {"finetuned": 0, "baseline": 0}}
    async with (
        Stub(StubConfig(faults={"*": fault})) as stub,
        running(policy_of(stub.url, limits=LIMITS, fallback=retry)) as lane,
    ):
        for _ in range(3):
            await ask(lane, sized(900_000))
        await lane.idle()
        assert await buffered_bytes(lane) == 0


async def test_held_bytes_are_given_back_when_the_client_leaves() -> None:
    """ACCEPTANCE 17: in the middle of its body, or waiting for an answer."""
    async with (
        Stub(StubConfig(faults={"*": "silence"})) as stub,
        running(policy_of(stub.url, limits=LIMITS)) as lane,
    ):
        whole = chat(sized(400_000))
        async with (
            RawClient(lane.host, lane.port) as waiting,
            RawClient(lane.host, lane.port) as sending,
        ):
            await waiting.send(whole)
            await sending.send(whole[:200_000])
            await eventually(lambda: len(stub.calls) == 1)
            assert await buffered_bytes(lane) == 800_000
        await eventually(lambda: len(lane.records) == 2)
        assert await buffered_bytes(lane) == 0
    assert [(record.status, record.failure) for record in lane.records] == [(499, "client_gone")] * 2


OFF = {
    "status=500": (500, "server_error"),
    "status=429": (429, "rate_limited"),
    "model_gone": (404, "model_gone"),
    "null": (200, "bad_body"),
    "empty": (200, "empty"),
    "reset": (502, "reset"),
    "silence": (504, "first_byte_timeout"),
    "error_first": (200, "stream_error"),
    "cut=0": (502, "stream_truncated"),
}


@pytest.mark.parametrize(("fault", "outcome"), OFF.items(), ids=OFF)
async def test_fallback_switched_off_leaves_every_failure_alone(fault: str, outcome: tuple[int, str]) -> None:
    """ACCEPTANCE 17: the baseline is never called, and neither is a breaker opened."""
    times = {"up": {"timeouts": QUICK}} if fault == "silence" else {}  # a busy machine is as slow as that, now and then
    fallback = {"breaker": {"failures": 2}}
    body = BODIES["stream" if outcome[1].startswith("stream") else "json"]
    async with Stub(StubConfig(faults={"ft:*": fault})) as stub:
        policy = policy_of(stub.url, models={"fallback_enabled": False}, upstreams=times, fallback=fallback)
        async with running(policy) as lane:
            for _ in range(3):
                answer = await ask(lane, body)
            record = await lane.record(3)
        assert calls_by_model(stub) == {FINETUNED: 3}
    assert (answer.status, record.failure, record.fallback) == (*outcome, None)
    # Named only where the fine-tune's own answer is passed on; a broken one is answered by us.
    assert ours(answer).get("served") == (None if answer.status in (502, 504) else FINETUNED)


async def test_fallback_switched_off_leaves_a_refused_connection_alone() -> None:
    """ACCEPTANCE 17."""
    async with Stub() as stub, running(policy_of(stub.url, models={"fallback_enabled": False})) as lane:
        await stub.pause_listening(drop=True)
        answer = await ask(lane)
        record = await lane.record()
    assert (answer.status, record.failure, record.fallback) == (502, "connect", None)
    assert len(record.attempts) == 1


@pytest.mark.parametrize("fault", ["status=503", "status=429,retry_after=60", "reset", "model_gone", "null"])
async def test_dead_fine_tune_at_100_percent_serves_everybody(fault: str) -> None:
    """ACCEPTANCE 17: the retry budget is for retries; a fallback is none."""
    fallback = {
        "retry": {"finetuned": 2, "baseline": 1, "max_wait": "2s"},
        "retry_budget": {"ratio": 0, "min": 0},
        "breaker": {"failures": 1000},
    }
    async with Stub(StubConfig(faults={"ft:*": fault})) as stub:
        rollout = {"brake": {"enabled": False}}  # it would end the trial
        policy = policy_of(stub.url, ab_testing={"rollout_percentage": 100}, fallback=fallback, rollout=rollout)
        async with running(policy) as lane:
            users = [f"user-{number}" for number in range(60)]
            answers = []
            for start in range(0, len(users), 20):
                batch = users[start : start + 20]
                answers += await asyncio.gather(*(ask(lane, BODY, user=user) for user in batch))
        calls = calls_by_model(stub)
    assert calls[BASELINE] == 60
    # A reset of a pooled connection looks like a stale one, which is resent once.
    assert 60 <= calls[FINETUNED] <= (120 if fault == "reset" else 60)
    assert {answer.status for answer in answers} == {200}
    assert {ours(answer)["variant"] for answer in answers} == {"finetuned"}
    assert {ours(answer)["served"] for answer in answers} == {BASELINE}

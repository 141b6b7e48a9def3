"""ACCEPTANCE 16: a fine-tune that keeps failing is left alone, and looked after now and then."""

import asyncio

import pytest

from proxy.stub import Stub
from proxy.words import Assignment, Variant
from tests.support.lane import BASELINE, FINETUNED, FINETUNED_USER, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.rescue import STREAM_BODY, ask, assert_rescued, calls_by_model, chat, ours

FAILURES = 3
# Long enough that a busy machine gets a dozen requests through while the breaker is open.
OPEN = 0.4
BREAKER = {"breaker": {"failures": FAILURES, "window": "30s", "open": f"{int(OPEN * 1000)}ms"}}


async def trip(lane: Lane, stub: Stub, fault: str = "status=500") -> None:
    """Make the fine-tune fail until its breaker opens."""
    stub.set_fault("ft:*", fault)
    for _ in range(FAILURES):
        assert (await ask(lane)).status == 200
    assert calls_by_model(stub)[FINETUNED] == FAILURES
    stub.calls.clear()


async def breaker_gauge(lane: Lane) -> str:
    """The value of `splitlane_breaker_open` in a scrape."""
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", "/metrics"))
        text = (await client.read_response()).body.decode()
    line = next(line for line in text.splitlines() if line.startswith("splitlane_breaker_open{"))
    return line.rpartition(" ")[2]


@pytest.mark.parametrize("fault", ["status=500", "status=429", "reset", "null", "model_gone", "error_first", "cut=0"])
async def test_open_breaker_spares_the_fine_tune(fault: str) -> None:
    """ACCEPTANCE 16: no calls of it, the assignment as before."""
    body = STREAM_BODY if fault in ("error_first", "cut=0") else b'{"messages":[{"role":"user","content":"hi"}]}'
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        stub.set_fault("ft:*", fault)
        for _ in range(FAILURES):
            assert (await ask(lane, body)).status == 200
        stub.calls.clear()
        answers = [await ask(lane, body) for _ in range(5)]
        assert calls_by_model(stub) == {BASELINE: 5}
        record = await lane.record(FAILURES + 5)
        assert await breaker_gauge(lane) == "1.0"
    for answer in answers:
        assert_rescued(answer, "breaker_open", attempts=1)
    assert record.decision.variant is Variant.FINETUNED
    assert record.decision.assignment is Assignment.FINETUNED
    assert record.decision.bucket == lane.records[0].decision.bucket
    assert (record.served, record.fallback, record.failure) == (BASELINE, "breaker_open", None)
    assert [attempt.model for attempt in record.attempts] == [BASELINE]


async def test_log_tells_the_failures_and_the_opening_and_the_end_not_each_rescue(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        await trip(lane, stub)
        for _ in range(5):
            assert_rescued(await ask(lane), "breaker_open", attempts=1)
        stub.clear_faults()
        await asyncio.sleep(OPEN)
        assert (await ask(lane)).head.get(b"x-splitlane-fallback") is None
        told = [each.getMessage() for each in caplog.records if each.name == "splitlane.exchange"]
    opening = f"qa_agent: {FINETUNED} is not called, but for a try every {OPEN:g} s"
    told.remove(opening)  # the last failure is told after it
    assert ["failed (server_error)" in line for line in told] == [True] * FAILURES + [False]
    assert told[-1] == f"qa_agent: {FINETUNED} is called again"


async def test_silence_opens_the_breaker_and_costs_no_more_time() -> None:
    """ACCEPTANCE 16."""
    times = {"timeouts": {"first_byte": "200ms"}}
    async with (
        Stub() as stub,
        running(policy_of(stub.url, fallback=BREAKER, upstreams={"up": times})) as lane,
    ):
        await trip(lane, stub, "silence")
        assert_rescued(await ask(lane), "breaker_open", attempts=1)
        record = await lane.record(FAILURES + 1)
    assert record.latency < 0.2


@pytest.mark.parametrize("at_once", [1, 8], ids=["one-by-one", "all-at-once"])
async def test_one_probe_in_each_interval(at_once: int) -> None:
    """ACCEPTANCE 16: however many requests come."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        await trip(lane, stub)
        for interval in range(1, 3):
            await asyncio.sleep(OPEN + 0.05)
            for _ in range(8 // at_once):
                answers = await asyncio.gather(*(ask(lane) for _ in range(at_once)))
                assert {answer.status for answer in answers} == {200}
            assert calls_by_model(stub) == {FINETUNED: interval, BASELINE: 8 * interval}


async def test_no_probe_beside_one_that_hangs() -> None:
    """ACCEPTANCE 16."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        await trip(lane, stub)
        stub.set_fault("ft:*", "silence")
        await asyncio.sleep(OPEN + 0.05)
        async with RawClient(lane.host, lane.port) as prober:
            await prober.send(chat())
            await eventually(lambda: calls_by_model(stub) == {FINETUNED: 1})
            await asyncio.sleep(OPEN + 0.05)
            for _ in range(3):
                assert_rescued(await ask(lane), "breaker_open", attempts=1)
            assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 3}
        # Its client leaves: nothing was learnt, so the next request may probe.
        await lane.idle()
        stub.clear_faults()
        assert ours(await ask(lane))["served"] == FINETUNED


async def test_recovery_within_one_interval() -> None:
    """ACCEPTANCE 16."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        await trip(lane, stub)
        assert_rescued(await ask(lane), "breaker_open", attempts=1)
        stub.clear_faults()
        await asyncio.sleep(OPEN + 0.05)
        stub.calls.clear()
        for _ in range(4):
            assert ours(await ask(lane)) == {
                "agent": "qa_agent",
                "variant": "finetuned",
                "served": FINETUNED,
                "attempts": "1",
            }
        assert calls_by_model(stub) == {FINETUNED: 4}
        assert await breaker_gauge(lane) == "0.0"


async def test_recovered_stream_closes_the_breaker() -> None:
    """ACCEPTANCE 16: a stream has answered when it has ended."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        await trip(lane, stub)
        stub.clear_faults()
        await asyncio.sleep(OPEN + 0.05)
        assert ours(await ask(lane, STREAM_BODY))["served"] == FINETUNED
        await lane.idle()
        assert ours(await ask(lane, STREAM_BODY))["served"] == FINETUNED


@pytest.mark.parametrize("fault", ["context_length", "content_filter", "auth", "status=400"])
async def test_clients_mistakes_open_no_breaker(fault: str) -> None:
    """ACCEPTANCE 16: it takes a living model to refuse."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        stub.set_fault("ft:*", fault)
        for _ in range(FAILURES + 3):
            assert ours(await ask(lane))["served"] == FINETUNED
        assert calls_by_model(stub) == {FINETUNED: FAILURES + 3}


async def test_failures_that_are_not_in_a_row_open_no_breaker() -> None:
    """ACCEPTANCE 16: a model that fails now and then is rescued call by call."""
    async with Stub() as stub, running(policy_of(stub.url, fallback=BREAKER)) as lane:
        for _ in range(FAILURES):
            stub.set_fault("ft:*", f"status=500,count={FAILURES - 1}")
            for _ in range(FAILURES):
                assert (await ask(lane)).status == 200
        assert calls_by_model(stub)[FINETUNED] == FAILURES * FAILURES


async def test_failures_further_apart_than_the_window_open_no_breaker() -> None:
    """ACCEPTANCE 16."""
    narrow = {"breaker": {"failures": 2, "window": "100ms", "open": "30s"}}
    async with Stub() as stub, running(policy_of(stub.url, fallback=narrow)) as lane:
        stub.set_fault("ft:*", "status=500")
        for _ in range(4):
            await ask(lane)
            await asyncio.sleep(0.15)
        assert calls_by_model(stub) == {FINETUNED: 4, BASELINE: 4}


async def test_baseline_is_called_however_often_it_fails() -> None:
    """ACCEPTANCE 16: there is nobody behind it, so a breaker would only refuse more."""
    fallback = {**BREAKER, "retry": {"baseline": 0}}
    async with Stub() as stub, running(policy_of(stub.url, fallback=fallback)) as lane:
        stub.set_fault(BASELINE, "status=500")
        for _ in range(FAILURES + 3):
            assert (await ask(lane, user="user-42")).status == 500
        stub.clear_faults()
        assert (await ask(lane, user="user-42")).status == 200


async def test_breaker_is_one_agents_alone() -> None:
    """ACCEPTANCE 16: another agent's fine-tune at the same upstream is called as before."""
    other = {"fine_tuned": "ft:other", "fallback": BASELINE, "rollout_percentage": 100}
    async with (
        Stub() as stub,
        running(policy_of(stub.url, fallback=BREAKER, agents={"legal_agent": other})) as lane,
    ):
        stub.set_fault(FINETUNED, "status=500")
        for _ in range(FAILURES):
            await ask(lane)
        assert_rescued(await ask(lane), "breaker_open", attempts=1)
        async with RawClient(lane.host, lane.port) as client:
            fields = [("X-Agent", "legal_agent"), ("X-User-Id", FINETUNED_USER)]
            await client.send(request("POST", "/v1/chat/completions", STREAM_BODY, fields))
            assert ours(await client.read_response())["served"] == "ft:other"

"""ACCEPTANCE 14: a pooled connection that its peer closes just as a request arrives."""

import asyncio

import pytest

from proxy.stub import Stub
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Action, Close, Pause, RawUpstream, Read, Reset, Send, Stall
from tests.support.rescue import ANSWER, BODIES, OK, apart, ask, assert_rescued, calls_by_model, ours

NO_RETRIES = {"retry": {"finetuned": 0, "baseline": 0}, "retry_budget": {"ratio": 0, "min": 0}}
both_endings = pytest.mark.parametrize("ending", [Close(), Reset()], ids=["fin", "rst"])


def once(*then: Action) -> list[Action]:
    """Answer one request; with the second, do something else."""
    return [Read(), Send(OK), Read(), *then]


@both_endings
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_stale_connection_is_resent_once_on_a_fresh_one(ending: Action, body: bytes) -> None:
    """ACCEPTANCE 14: to the same target, and it is neither a retry nor an attempt more."""
    scripts: dict[int, list[Action]] = {1: once(ending), 2: [Read(), Send(OK)]}
    async with Stub() as stub, RawUpstream(lambda n: scripts[n]) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=NO_RETRIES)) as lane:
            await ask(lane)
            answer = await ask(lane, body)
            record = await lane.record(2)
        assert [len(each.requests) for each in candidate.connections] == [2, 1]
        assert candidate.requests[1] == candidate.requests[2]
        assert stub.calls == []
    assert (answer.status, answer.body) == (200, ANSWER)
    assert ours(answer) == {"agent": "qa_agent", "variant": "finetuned", "served": FINETUNED, "attempts": "1"}
    assert [(each.status, each.failure) for each in record.attempts] == [(200, None)]


@both_endings
async def test_fresh_connection_that_closes_too_is_a_failure(ending: Action) -> None:
    """ACCEPTANCE 14: twice in a row, never three sends; the baseline answers."""
    scripts: dict[int, list[Action]] = {1: once(ending), 2: [Read(), ending], 3: [Read(), Send(OK)]}
    async with Stub() as stub, RawUpstream(lambda n: scripts[n]) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=NO_RETRIES)) as lane:
            await ask(lane)
            assert_rescued(await ask(lane), "reset")
        assert [len(each.requests) for each in candidate.connections] == [2, 1]
        assert calls_by_model(stub) == {BASELINE: 1}


@both_endings
async def test_baseline_on_a_stale_connection_is_sent_twice_and_never_thrice(ending: Action) -> None:
    """ACCEPTANCE 14."""
    scripts: dict[int, list[Action]] = {1: once(ending), 2: [Read(), ending], 3: [Read(), Send(OK)]}
    async with RawUpstream(lambda n: scripts[n]) as up:
        async with running(policy_of(up.url, fallback=NO_RETRIES)) as lane:
            await ask(lane, user=BASELINE_USER)
            answer = await ask(lane, user=BASELINE_USER)
            record = await lane.record(2)
        assert len(up.requests) == 3  # one, and two
    assert answer.status == 502
    assert len(record.attempts) == 1


async def test_resend_takes_no_second_pooled_connection() -> None:
    """ACCEPTANCE 14: where one is stale, so are the others: the resend is on a new one."""
    width = 4
    stale: list[Action] = [Read(), Pause(0.1), Send(OK), Read(), Close()]
    fresh: list[Action] = [Read(), Send(OK)]
    async with RawUpstream(lambda n: stale if n <= width else fresh) as up:
        async with running(policy_of(up.url, fallback=NO_RETRIES)) as lane:
            await asyncio.gather(*(ask(lane) for _ in range(width)))
            assert len(up.connections) == width
            answer = await ask(lane)
        assert len(up.requests) == width + 2
        assert [len(each.requests) for each in up.connections[width:]] == [1]
    assert answer.status == 200


async def test_stale_connection_that_began_to_answer_is_not_resent() -> None:
    """ACCEPTANCE 14: a peer that has answered a byte has taken the request."""
    script = once(Send(b"HTTP/1.1 2"), Pause(0.05), Close())
    async with Stub() as stub, RawUpstream(script) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=NO_RETRIES)) as lane:
            await ask(lane)
            assert_rescued(await ask(lane), "reset")
        assert len(candidate.requests) == 2


async def test_silent_pooled_connection_is_not_resent() -> None:
    """ACCEPTANCE 14: silence is a time-out, not staleness."""
    async with Stub() as stub, RawUpstream(once(Stall())) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=NO_RETRIES)) as lane:
            await ask(lane)
            assert_rescued(await ask(lane), "first_byte_timeout")
        assert len(candidate.requests) == 2


@both_endings
async def test_connection_closed_while_idle_is_not_used_again(ending: Action) -> None:
    """ACCEPTANCE 14: what is known to be closed is not tried."""
    async with RawUpstream([Read(), Send(OK), Pause(0.05), ending]) as up:
        async with running(policy_of(up.url, fallback=NO_RETRIES)) as lane:
            await ask(lane)
            await asyncio.sleep(0.3)
            assert (await ask(lane)).status == 200
        assert [len(each.requests) for each in up.connections] == [1, 1]


async def test_stale_connection_that_a_request_waited_for_is_resent_too() -> None:
    """ACCEPTANCE 14: however the request came to its pooled connection."""
    scripts: dict[int, list[Action]] = {
        1: [Read(), Pause(0.2), Send(OK), Read(), Close()],
        2: [Read(), Send(OK)],
    }
    pool = {"max_connections": 1, "wait": "5s"}
    async with Stub() as stub, RawUpstream(lambda n: scripts[n]) as candidate:
        policy = apart(candidate.url, stub.url, candidate={"pool": pool}, fallback=NO_RETRIES)
        async with running(policy) as lane:
            first = asyncio.ensure_future(ask(lane))
            await eventually(lambda: len(candidate.requests) == 1)
            second = await ask(lane)
            await first
        assert [len(each.requests) for each in candidate.connections] == [2, 1]
        assert stub.calls == []
    assert ours(second)["served"] == FINETUNED


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_stale_connection_is_resent_on_passthrough_routes(method: str) -> None:
    """ACCEPTANCE 14: a body that is held may be sent again."""
    body = b'{"model":"m","input":"x"}' if method == "POST" else b""
    scripts: dict[int, list[Action]] = {1: once(Close()), 2: [Read(), Send(OK)]}
    async with RawUpstream(lambda n: scripts[n]) as up, running(policy_of(up.url)) as lane:
        for _ in range(2):
            async with RawClient(lane.host, lane.port) as client:
                await client.send(request(method, "/v1/embeddings", body))
                assert (await client.read_response()).body == ANSWER
        assert [len(each.requests) for each in up.connections] == [2, 1]

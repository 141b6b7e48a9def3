"""ACCEPTANCE 15: the baseline fails too, or the time is over."""

import asyncio
import json

import pytest

from proxy.stub import Stub, StubConfig
from tests.support.lane import BASELINE, FINETUNED, policy_of, running
from tests.support.raw_upstream import Action, RawUpstream, Read, Reset, Send, Stall, response
from tests.support.rescue import BODIES, STREAM_BODY, apart, ask, assert_rescued, calls_by_model, ours

both_bodies = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
# A bound for things that take a few milliseconds: the machine may be busy.
SLACK = 0.6


@both_bodies
async def test_both_fail_and_the_baselines_answer_arrives_once(body: bytes) -> None:
    """ACCEPTANCE 15."""
    last = b'{"error":{"message":"baseline is down" ,"type":"server_error","param":null,"code":null}}'
    script: list[Action] = [
        Read(),
        Send(response(last, 503, [("content-type", "application/json"), ("x-odd", "b")])),
    ]
    async with RawUpstream(script) as up, Stub(StubConfig(faults={"*": "status=500"})) as candidate:
        policy = apart(candidate.url, up.url, fallback={"retry": {"baseline": 0}})
        async with running(policy) as lane:
            answer = await ask(lane, body)
            record = await lane.record()
        assert len(candidate.calls) == len(up.requests) == 1
    assert (answer.status, answer.body) == (503, last)
    assert answer.head.all(b"x-odd") == [b"b"]
    assert ours(answer) == {
        "agent": "qa_agent",
        "variant": "finetuned",
        "served": BASELINE,
        "attempts": "2",
        "fallback": "server_error",
    }
    assert (record.status, record.failure, record.fallback) == (503, "server_error", "server_error")


async def test_both_fail_without_an_answer_and_ours_is_a_502_that_names_the_reason() -> None:
    """ACCEPTANCE 15."""
    async with RawUpstream([Read(), Reset()]) as up:
        async with running(policy_of(up.url, fallback={"retry": {"baseline": 0}})) as lane:
            answer = await ask(lane)
        assert len(up.requests) == 2
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["param"]) == (502, "reset", None)
    assert answer.head.get(b"x-splitlane-attempts") == b"2"


async def test_baseline_is_retried_once_by_default() -> None:
    """ACCEPTANCE 14, 15: two calls of a failing baseline, and no third."""
    async with Stub(StubConfig(faults={"*": "status=503"})) as stub:
        async with running(policy_of(stub.url)) as lane:
            answer = await ask(lane)
            record = await lane.record()
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 2}
    assert answer.status == 503
    assert [attempt.model for attempt in record.attempts] == [FINETUNED, BASELINE, BASELINE]


TIMES = {"first_byte": "5s", "first_content": "5s", "idle": "5s", "total": "1s"}


@both_bodies
async def test_total_deadline_ends_silence_of_the_fine_tune(body: bytes) -> None:
    """ACCEPTANCE 15: nothing is left for the baseline, so it is not called."""
    async with Stub(StubConfig(faults={"ft:*": "silence"})) as stub:
        async with running(policy_of(stub.url, upstreams={"up": {"timeouts": TIMES}})) as lane:
            started = asyncio.get_running_loop().time()
            answer = await ask(lane, body)
            took = asyncio.get_running_loop().time() - started
        assert calls_by_model(stub) == {FINETUNED: 1}
    assert answer.status == 504
    assert json.loads(answer.body)["error"]["code"] == "total_timeout"
    assert 0.98 <= took < 1 + SLACK


@both_bodies
async def test_total_deadline_is_one_for_both_attempts(body: bytes) -> None:
    """ACCEPTANCE 15: the baseline gets what the fine-tune left, not a deadline of its own."""
    times = {**TIMES, "first_byte": "600ms"}
    async with Stub(StubConfig(faults={"ft:*": "silence", "*": "slow=3"})) as stub:
        policy = policy_of(stub.url, upstreams={"up": {"timeouts": times}})
        async with running(policy) as lane:
            started = asyncio.get_running_loop().time()
            answer = await ask(lane, body)
            took = asyncio.get_running_loop().time() - started
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 1}
    assert answer.status == 504
    assert json.loads(answer.body)["error"]["code"] == "total_timeout"
    assert 0.98 <= took < 1 + SLACK


async def test_total_deadline_leaves_no_time_for_a_retry() -> None:
    """ACCEPTANCE 15: a wait that would end past the deadline is not begun."""
    async with Stub(StubConfig(faults={"*": "status=503,retry_after=1"})) as stub:
        policy = policy_of(
            stub.url,
            upstreams={"up": {"timeouts": TIMES}},
            fallback={"retry": {"finetuned": 2, "baseline": 2, "max_wait": "10s"}},
        )
        async with running(policy) as lane:
            started = asyncio.get_running_loop().time()
            answer = await ask(lane)
            took = asyncio.get_running_loop().time() - started
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 1}
    assert answer.status == 503
    assert took < SLACK


@pytest.mark.parametrize("seconds", ["0.4", "0.40"])
async def test_sdks_read_timeout_shortens_the_deadline(seconds: str) -> None:
    """ACCEPTANCE 15: `x-stainless-read-timeout`."""
    async with Stub(StubConfig(faults={"ft:*": "silence"})) as stub, running(policy_of(stub.url)) as lane:
        started = asyncio.get_running_loop().time()
        answer = await ask(lane, headers=[("x-stainless-read-timeout", seconds)])
        took = asyncio.get_running_loop().time() - started
    assert answer.status == 504
    assert 0.38 <= took < 0.4 + SLACK


@pytest.mark.parametrize("seconds", ["600", "nan", "-1", "0", "inf", "1e999", "soon", ""])
async def test_longer_or_senseless_read_timeout_changes_nothing(seconds: str) -> None:
    """ACCEPTANCE 15: it shortens, never lengthens."""
    async with (
        Stub() as stub,
        RawUpstream([Read(), Stall()]) as candidate,
        running(apart(candidate.url, stub.url, timeouts={"first_byte": "100ms"})) as lane,
    ):
        answer = await ask(lane, headers=[("x-stainless-read-timeout", seconds)])
    assert_rescued(answer, "first_byte_timeout")


async def test_read_timeout_does_not_cut_a_stream_that_has_begun() -> None:
    """ACCEPTANCE 15: the deadline is for the answer's beginning; a stream has a limit of its own."""
    async with Stub(StubConfig(faults={"*": "drip=0.05"})) as stub, running(policy_of(stub.url)) as lane:
        answer = await ask(lane, STREAM_BODY, headers=[("x-stainless-read-timeout", "0.3")])
    assert (answer.status, answer.clean_end) == (200, True)
    assert answer.pieces[-1].time - answer.pieces[0].time > 0.3

"""ACCEPTANCE 10: whatever way a fine-tune fails before its answer, the baseline answers.

Every case is run for JSON and for streams, and counts the calls: one to each model.
"""

import ssl
from contextlib import AsyncExitStack

import pytest
import trustme

from proxy.stub import Stub, StubConfig
from tests.support.lane import BASELINE, FINETUNED, policy_of, running
from tests.support.raw_upstream import Close, Pause, RawUpstream, Read, Reset, Script, Send, Stall
from tests.support.rescue import ANSWER, BODIES, apart, ask, assert_rescued, calls_by_model

both_bodies = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


@both_bodies
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (408, "server_error"),
        (425, "server_error"),
        (429, "rate_limited"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
        (504, "server_error"),
        (529, "server_error"),
    ],
)
async def test_status_is_served_by_baseline(status: int, reason: str, body: bytes) -> None:
    """ACCEPTANCE 10."""
    async with Stub(StubConfig(faults={"ft:*": f"status={status}"})) as stub:
        async with running(policy_of(stub.url)) as lane:
            assert_rescued(await ask(lane, body), reason)
            record = await lane.record()
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 1}
    assert (record.status, record.failure, record.fallback, record.served) == (200, None, reason, BASELINE)
    assert [(each.model, each.status, each.failure) for each in record.attempts] == [
        (FINETUNED, status, reason),
        (BASELINE, 200, None),
    ]


CUT_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n" + ANSWER
CUT_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(ANSWER), ANSWER)


@both_bodies
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param([Read(), Reset()], "reset", id="reset"),
        pytest.param([Read(), Close()], "reset", id="closed"),
        pytest.param([Read(body=False), Reset()], "reset", id="reset-before-the-body-was-read"),
        pytest.param([Reset()], "reset", id="reset-at-once"),
        pytest.param([Read(), Send(b"HTTP/1.1 200 O"), Pause(0.05), Reset()], "reset", id="reset-in-the-head"),
        pytest.param([Read(), Send(b"HTTP/1.1 200 O"), Close()], "reset", id="closed-in-the-head"),
        pytest.param([Read(), Send(CUT_JSON), Close()], "reset", id="closed-in-a-body"),
        pytest.param([Read(), Send(CUT_JSON), Pause(0.05), Reset()], "reset", id="reset-in-a-body"),
        pytest.param([Read(), Send(CUT_CHUNKED), Close()], "reset", id="closed-without-a-last-chunk"),
        pytest.param([Read(), Stall()], "first_byte_timeout", id="silence"),
        pytest.param([Read(), Send(b"HTTP/1.1 200 O"), Stall()], "first_byte_timeout", id="silence-in-the-head"),
        pytest.param([Read(), Send(CUT_JSON), Stall()], "idle_timeout", id="silence-in-a-body"),
    ],
)
async def test_broken_connection_is_served_by_baseline(script: Script, reason: str, body: bytes) -> None:
    """ACCEPTANCE 10."""
    async with Stub() as stub, RawUpstream(script) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            answer = await ask(lane, body)
            record = await lane.record()
        assert len(candidate.connections) == 1
    # A connection that is closed at once may be found closed before or after the request is written.
    allowed = ("reset", "connect") if script == [Reset()] else (reason,)
    assert record.fallback in allowed
    assert_rescued(answer, str(record.fallback))
    assert calls_by_model(stub) == {BASELINE: 1}
    assert [attempt.upstream for attempt in record.attempts] == ["candidate", "up"]


@both_bodies
async def test_refused_connection_is_served_by_baseline(body: bytes) -> None:
    """ACCEPTANCE 10."""
    async with Stub() as stub, Stub() as candidate:
        await candidate.pause_listening()
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane, body), "connect")
    assert calls_by_model(stub) == {BASELINE: 1}


def server_tls(host: str) -> ssl.SSLContext:
    """A certificate for `host` of an authority that nobody trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(host).configure_cert(context)
    return context


@both_bodies
@pytest.mark.parametrize("speaks_tls", [True, False], ids=["untrusted-certificate", "not-tls"])
async def test_failed_handshake_is_served_by_baseline(speaks_tls: bool, body: bytes) -> None:
    """ACCEPTANCE 10."""
    tls = server_tls("127.0.0.1") if speaks_tls else None
    script: Script = [Read(), Stall()] if speaks_tls else [Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close()]
    async with Stub() as stub, RawUpstream(script, tls=tls) as candidate:
        url = candidate.url.replace("http://", "https://")
        async with running(apart(url, stub.url, timeouts={"connect": "5s"})) as lane:
            assert_rescued(await ask(lane, body), "connect")
        assert candidate.requests == []
    assert calls_by_model(stub) == {BASELINE: 1}


@pytest.mark.parametrize(
    ("switch", "fault", "reason"),
    [
        ("429", "status=429", "rate_limited"),
        ("5xx", "status=503", "server_error"),
        ("connect", "reset", "reset"),
        ("timeout", "silence", "first_byte_timeout"),
        ("model_gone", "model_gone", "model_gone"),
        ("bad_body", "null", "bad_body"),
        ("empty", "empty", "empty"),
    ],
)
async def test_switched_off_failure_stays_with_the_fine_tune(switch: str, fault: str, reason: str) -> None:
    """ACCEPTANCE 10, 11, 13: `fallback.on` decides."""
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(Stub())
        candidate = await stack.enter_async_context(Stub(StubConfig(faults={"*": fault})))
        policy = apart(candidate.url, stub.url, fallback={"on": {switch: False}})
        lane = await stack.enter_async_context(running(policy))
        answer = await ask(lane)
        record = await lane.record()
        assert (len(candidate.calls), stub.calls) == (1, [])
    assert answer.head.get(b"x-splitlane-fallback") is None
    answered = FINETUNED if record.attempts[0].status else ""  # by us, where it did not answer
    assert (answer.head.get(b"x-splitlane-served") or b"") == answered.encode()
    assert (record.failure, record.fallback, record.served) == (reason, None, answered)
    assert answer.status == {"reset": 502, "first_byte_timeout": 504}.get(reason, record.attempts[0].status)

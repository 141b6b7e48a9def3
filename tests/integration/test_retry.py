"""ACCEPTANCE 14: retries on the same target, when the policy asks for them."""

import itertools
import math
import time
from email.utils import formatdate

import pytest

from proxy.stub import Stub, StubConfig
from tests.support.lane import BASELINE, FINETUNED, policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import Action, RawUpstream, Read, Reset, Send, head, response
from tests.support.rescue import OK, apart, ask, assert_rescued, calls_by_model, chat, ours

RETRIES = {
    "retry": {"finetuned": 2, "baseline": 2, "max_wait": "2s"},
    "retry_budget": {"ratio": 1, "min": 100},
}
# Waits are never shorter than asked; how much longer is the machine's doing.
SLACK = 0.2


def gaps(stub: Stub) -> list[float]:
    """Seconds between the calls."""
    times = [call.time for call in stub.calls]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("wait", [0.3, 0.7])
async def test_retry_after_is_honoured_to_a_tenth_of_a_second(wait: float) -> None:
    """ACCEPTANCE 14."""
    async with Stub(StubConfig(faults={"ft:*": f"status=429,retry_after={wait},count=1"})) as stub:
        async with running(policy_of(stub.url, fallback=RETRIES)) as lane:
            answer = await ask(lane)
            record = await lane.record()
        assert calls_by_model(stub) == {FINETUNED: 2}
    assert wait - 0.01 <= gaps(stub)[0] < wait + SLACK
    assert ours(answer) == {"agent": "qa_agent", "variant": "finetuned", "served": FINETUNED, "attempts": "2"}
    assert [(attempt.status, attempt.failure) for attempt in record.attempts] == [
        (429, "rate_limited"),
        (200, None),
    ]


def refused(*fields: tuple[str, str], status: int = 503) -> bytes:
    """The head of a refusal without a body."""
    return head(status, [*fields, ("content-length", "0")])


@pytest.mark.parametrize(
    ("fields", "wait"),
    [
        ((("retry-after-ms", "400"),), 0.4),
        ((("retry-after-ms", "400"), ("retry-after", "9")), 0.4),
        ((("Retry-After", "0.4"),), 0.4),
        ((("retry-after", " 0 "),), 0.0),
        ((("retry-after", "-3"),), 0.0),
        ((("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT"),), 0.0),
    ],
)
async def test_every_spelling_of_retry_after_is_honoured(fields: tuple[tuple[str, str], ...], wait: float) -> None:
    """ACCEPTANCE 14: milliseconds win over seconds, as in the SDKs."""
    script: list[Action] = [Read(), Send(refused(*fields)), Read(), Send(OK)]
    async with RawUpstream(script) as up, running(policy_of(up.url, fallback=RETRIES)) as lane:
        started = time.time()
        answer = await ask(lane)
        took = time.time() - started
        assert len(up.requests) == 2
    assert answer.status == 200
    assert wait - 0.01 <= took < wait + SLACK


async def test_retry_after_as_a_date_is_honoured() -> None:
    """ACCEPTANCE 14."""
    date = math.ceil(time.time() + 0.4)
    script: list[Action] = [
        Read(),
        Send(refused(("retry-after", formatdate(date, usegmt=True)))),
        Read(),
        Send(OK),
    ]
    async with RawUpstream(script) as up, running(policy_of(up.url, fallback=RETRIES)) as lane:
        answer = await ask(lane)
        assert len(up.requests) == 2
    assert answer.status == 200
    assert date - 0.01 <= time.time() < date + SLACK + 0.1


@pytest.mark.parametrize(
    "value",
    [
        "soon", "", "nan", "0x10", "1, 2", "Mon, 99 Foo 2024 99:99:99 GMT", "Mon, 01 Jan 0001 00:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 -9999", "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
    ],
)  # fmt: skip
async def test_unreadable_retry_after_harms_nothing(value: str) -> None:
    """ACCEPTANCE 14: whatever it says, somebody answers within `max_wait`."""
    candidate_script: list[Action] = [Read(), Send(refused(("retry-after", value))), Read(), Send(OK)]
    async with (
        Stub() as stub,
        RawUpstream(candidate_script) as candidate,
        running(apart(candidate.url, stub.url, fallback=RETRIES)) as lane,
    ):
        started = time.time()
        answer = await ask(lane)
    assert answer.status == 200
    assert time.time() - started < 2 + SLACK


@pytest.mark.parametrize("fault", ["status=429,retry_after=2.1", "status=503,retry_after=3600"])
async def test_too_long_a_wait_moves_on_at_once(fault: str) -> None:
    """ACCEPTANCE 14."""
    async with Stub(StubConfig(faults={"ft:*": fault})) as stub:
        async with running(policy_of(stub.url, fallback=RETRIES)) as lane:
            started = time.time()
            answer = await ask(lane)
            took = time.time() - started
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 1}
    assert answer.status == 200
    assert took < SLACK


async def test_endless_wait_is_too_long() -> None:
    """ACCEPTANCE 14."""
    async with Stub() as stub, RawUpstream([Read(), Send(refused(("retry-after", "inf")))]) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=RETRIES)) as lane:
            assert_rescued(await ask(lane), "server_error")
        assert len(candidate.requests) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("silence", "first_byte_timeout"),
        ("stall=0", "idle_timeout"),
        ("null", "bad_body"),
        ("empty", "empty"),
        ("model_gone", "model_gone"),
    ],
)
async def test_silent_or_senseless_target_is_never_retried(fault: str, reason: str) -> None:
    """ACCEPTANCE 14: after a time-out it may still be working, and billing."""
    async with Stub() as stub, Stub(StubConfig(faults={"*": fault})) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=RETRIES)) as lane:
            assert_rescued(await ask(lane), reason)
        assert len(candidate.calls) == 1
        assert calls_by_model(stub) == {BASELINE: 1}


async def test_refused_connection_is_not_retried() -> None:
    """ACCEPTANCE 14: a retry is for 429, 5xx and reset only."""
    async with Stub() as stub, Stub() as candidate:
        await candidate.pause_listening()
        async with running(apart(candidate.url, stub.url, fallback=RETRIES)) as lane:
            assert_rescued(await ask(lane), "connect")


# A reset cannot say how soon to come back, so each retry after one takes a whole back-off.
RETRY_CASES = [
    *itertools.product(range(3), range(3), ["status=503", "status=429"]),
    *[(0, 1, "reset"), (2, 0, "reset")],
]


@pytest.mark.parametrize(("finetuned", "baseline", "fault"), RETRY_CASES)
async def test_never_more_calls_than_the_policy_says(finetuned: int, baseline: int, fault: str) -> None:
    """ACCEPTANCE 14."""
    retry = {"finetuned": finetuned, "baseline": baseline, "max_wait": "2s"}
    # A quick `retry-after` spares the back-off, where there is an answer to put it on.
    hurried = fault if fault == "reset" else f"{fault},retry_after=0.01"
    async with Stub(StubConfig(faults={"*": hurried})) as stub:
        policy = policy_of(stub.url, fallback={**RETRIES, "retry": retry})
        async with running(policy) as lane:
            answer = await ask(lane)
            record = await lane.record()
        assert calls_by_model(stub) == {FINETUNED: finetuned + 1, BASELINE: baseline + 1}
    assert len(record.attempts) == finetuned + baseline + 2
    assert answer.status == {"status=503": 503, "status=429": 429, "reset": 502}[fault]


async def test_back_off_without_retry_after_is_jittered_and_grows() -> None:
    """ACCEPTANCE 14."""
    async with (
        Stub(StubConfig(faults={"ft:*": "status=503"})) as stub,
        running(policy_of(stub.url, fallback=RETRIES)) as lane,
    ):
        await ask(lane)
        await ask(lane)
    first, second = (times := gaps(stub))[:2]
    assert 0.1 <= first < 0.25 + SLACK
    assert 0.2 <= second < 0.5 + SLACK
    assert abs(times[0] - times[4]) > 1e-4  # calls 1–2 and 5–6: the same wait of the two requests


async def test_retry_that_succeeds_needs_no_baseline() -> None:
    """ACCEPTANCE 14."""
    dying: list[Action] = [Read(), Reset()]
    async with Stub() as stub, RawUpstream(lambda n: dying if n < 3 else [Read(), Send(OK)]) as candidate:
        async with running(apart(candidate.url, stub.url, fallback=RETRIES)) as lane:
            answer = await ask(lane)
        assert len(candidate.requests) == 3
        assert stub.calls == []
    assert ours(answer)["served"] == FINETUNED
    assert ours(answer)["attempts"] == "3"


@pytest.mark.parametrize(("ratio", "most"), [(0.0, 0), (0.2, 4)])
async def test_retry_budget_bounds_the_retries_of_all_requests(ratio: float, most: int) -> None:
    """ACCEPTANCE 14: at most `ratio` retries a request, however many each may make."""
    requests = 20
    fallback = {**RETRIES, "retry_budget": {"ratio": ratio, "min": 0}, "breaker": {"failures": 1000}}
    async with Stub(StubConfig(faults={"ft:*": "status=503,retry_after=0.001"})) as stub:
        async with running(policy_of(stub.url, fallback=fallback)) as lane:
            for _ in range(requests):
                assert (await ask(lane)).status == 200
        calls = calls_by_model(stub)
    assert calls[BASELINE] == requests
    assert calls[FINETUNED] - requests <= most
    assert calls[FINETUNED] - requests >= most - 1  # sums of 0.2 may fall short of a whole


async def test_few_retries_a_second_are_always_allowed() -> None:
    """ACCEPTANCE 14: `min`, which a lane with little traffic lives on."""
    fallback = {**RETRIES, "retry_budget": {"ratio": 0, "min": 2}, "breaker": {"failures": 1000}}
    async with Stub(StubConfig(faults={"ft:*": "status=503,retry_after=0.001"})) as stub:
        async with running(policy_of(stub.url, fallback=fallback)) as lane:
            await ask(lane)
        assert calls_by_model(stub) == {FINETUNED: 3, BASELINE: 1}


async def test_client_that_leaves_during_a_wait_stops_the_retry() -> None:
    """ACCEPTANCE 14, 23."""
    script: list[Action] = [Read(), Send(refused(("retry-after", "0.5"))), Read(), Send(response(b"{}"))]
    async with RawUpstream(script) as up, running(policy_of(up.url, fallback=RETRIES)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat())
            while not up.requests:
                await client.read_until_idle(0.02)
        record = await lane.record()
        assert (record.status, record.failure) == (499, "client_gone")
        await lane.idle()
        assert len(up.requests) == 1

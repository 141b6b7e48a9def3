"""ACCEPTANCE 41: whatever end a request comes to, nothing stays reserved, and what was used is paid for."""

import pytest

from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat, chat_body
from tests.integration.streaming import MORE, ROLE, TEXT, stream_then
from tests.support.budgets import DOLLAR, PRICES, budgeted, spent_in, status_of
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, Lane, eventually, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import Action, RawUpstream, Read, Send, Stall, head
from tests.support.rescue import apart

REJECT = {"daily_usd": 10, "on_exceeded": "reject"}
STREAM = DOLLAR[:-1] + b', "stream": true}'


async def leave(lane: Lane, sent: bytes, until: bytes = b"") -> None:
    """Send, wait for what is to be seen of the answer, and go."""
    async with RawClient(lane.host, lane.port) as client:
        await client.send(sent)
        await eventually(lambda: status_of(lane).reserved == 1)
        seen = b""
        while until not in seen:
            seen += await client.read()
        client.reset()


@pytest.mark.parametrize("end", [b"POST /v1/chat", b"\r\n\r\n", b'"messages"'])
async def test_client_that_leaves_before_its_request_is_complete_has_reserved_nothing(end: bytes) -> None:
    sent = chat(DOLLAR)
    async with Stub() as stub, running(budgeted(stub.url, REJECT)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(sent[: sent.index(end) + len(end)])
            await eventually(lambda: lane.service.connections == 1)
            client.reset()
        await eventually(lambda: lane.service.connections == 0)
        assert (status_of(lane).spent, status_of(lane).reserved) == (0, 0)


@pytest.mark.parametrize(
    ("script", "body"),
    [
        pytest.param([Read(), Stall()], DOLLAR, id="json-before-the-head"),
        pytest.param(
            [Read(), Send(head(200, [("content-length", "999")]) + b'{"id":'), Stall()], DOLLAR, id="json-in-its-body"
        ),
        pytest.param([Read(), Stall()], STREAM, id="stream-before-the-head"),
        pytest.param(stream_then(ROLE, ending=Stall()), STREAM, id="stream-before-content"),
    ],
)
async def test_client_that_leaves_while_the_model_thinks_releases_everything(script: list[Action], body: bytes) -> None:
    async with RawUpstream(script) as upstream, running(budgeted(upstream.url, REJECT)) as lane:
        await leave(lane, chat(body))
        spent = await spent_in(lane)
    assert spent == 0


async def test_client_that_leaves_in_a_stream_pays_for_what_was_seen() -> None:
    script = stream_then(ROLE, TEXT, MORE, ending=Stall())
    async with RawUpstream(script) as upstream, running(budgeted(upstream.url, REJECT)) as lane:
        await leave(lane, chat(STREAM), b"more")
        spent = await spent_in(lane)
        record = await lane.record()
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated, record.status) == (2, True, 499)
    assert spent == pytest.approx(0.2)


async def test_client_that_leaves_during_the_fallback_releases_everything() -> None:
    async with Stub(StubConfig(faults={"ft:*": "status=500"})) as stub, RawUpstream([Read(), Stall()]) as baseline:
        policy = apart(stub.url, baseline.url, budgets=REJECT, prices=PRICES)
        async with running(policy) as lane, RawClient(lane.host, lane.port) as client:
            await client.send(chat(DOLLAR))
            await eventually(lambda: len(baseline.requests) == 1)
            assert status_of(lane).reserved == pytest.approx(0.1)  # it is the baseline that is asked now
            client.reset()
            spent = await spent_in(lane)
    assert spent == 0


async def test_client_that_leaves_between_two_tries_releases_everything() -> None:
    fault = StubConfig(faults={"*": "status=503,retry_after=1.5"})
    async with Stub(fault) as stub, running(budgeted(stub.url, REJECT)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat(DOLLAR, user=BASELINE_USER))
            await eventually(lambda: len(stub.calls) == 1)
            client.reset()
            spent = await spent_in(lane)
        assert len(stub.calls) == 1
    assert spent == 0


@pytest.mark.parametrize("fault", ["status=500", "status=429", "context_length", "not_json", "reset", "content_filter"])
async def test_failures_that_billed_nothing_cost_nothing(fault: str) -> None:
    async with Stub(StubConfig(faults={"*": fault})) as stub, running(budgeted(stub.url, REJECT)) as lane:
        await ask(lane, chat(DOLLAR))
        spent = await spent_in(lane)
    assert spent == 0


async def test_failed_fine_tune_that_billed_is_paid_for_besides_the_baseline() -> None:
    async with Stub(StubConfig(faults={"ft:*": "empty=content"})) as stub, running(budgeted(stub.url, REJECT)) as lane:
        assert (await ask(lane, chat(DOLLAR))).status == 200
        spent = await spent_in(lane)
        record = await lane.record()
    assert [(each.model, each.failure) for each in record.attempts] == [(FINETUNED, "empty"), (BASELINE, None)]
    assert record.attempts[0].cost > 0
    assert spent == pytest.approx(record.cost)


async def test_stream_that_breaks_is_paid_for_as_far_as_it_came() -> None:
    async with Stub(StubConfig(faults={"ft:*": "cut=3"})) as stub, running(budgeted(stub.url, REJECT)) as lane:
        answer = await ask(lane, chat(STREAM))
        assert not answer.clean_end
        spent = await spent_in(lane)
    assert spent == pytest.approx(0.3)


async def test_request_that_is_refused_inside_releases_everything() -> None:
    """Admitted, and then found to be what cannot be adapted to the upstream: it has 2,000 members."""
    members = {f"m{index}": 1 for index in range(2_000)}
    body = chat_body(max_tokens=10, seed=1, **members)
    mistral = {"up": {"dialect": "mistral"}}
    async with Stub() as stub, running(budgeted(stub.url, REJECT, upstreams=mistral)) as lane:
        assert (await ask(lane, chat(body))).status == 400
        spent = await spent_in(lane)
    assert spent == 0


async def test_drain_that_cuts_a_request_releases_it() -> None:
    async with (
        RawUpstream([Read(), Stall()]) as upstream,
        running(budgeted(upstream.url, REJECT)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat(DOLLAR))
        await eventually(lambda: status_of(lane).reserved == 1)
        lane.service.hurry()
        await lane.service.stop()
        assert await spent_in(lane) == 0


async def test_stream_holds_its_reservation_until_its_end() -> None:
    async with (
        Stub(StubConfig(faults={"ft:*": "stall=2,count=1"})) as stub,
        running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "reject"})) as lane,
    ):
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat(STREAM))
            await client.read_head()
            assert (await ask(lane, chat(DOLLAR))).status == 402
        await lane.idle()
        assert (await ask(lane, chat(STREAM))).status == 200

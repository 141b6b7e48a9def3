"""ACCEPTANCE 41: budgets over sockets: what a spent one does, and that it is spent by one request at most."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat, chat_body, error_of
from tests.support.budgets import DOLLAR, budgeted, spent_in, status_of
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, Lane, eventually, running
from tests.support.raw_client import RawResponse
from tests.support.rescue import assert_rescued, calls_by_model, ours

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
OTHER_AGENT = {"other_agent": {"fine_tuned": FINETUNED, "fallback": BASELINE}}


async def ask_at_once(lane: Lane, count: int) -> list[RawResponse]:
    return await asyncio.gather(*(ask(lane, chat(DOLLAR)) for _ in range(count)))


# --- in parallel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [10, 7, 25])
async def test_200_parallel_requests_spend_a_budget_for_10_and_one_request_at_most(max_tokens: int) -> None:
    """ACCEPTANCE 41."""
    body = chat_body(max_tokens=max_tokens)
    async with (
        Stub(StubConfig(latency=0.1)) as stub,
        running(budgeted(stub.url, {"daily_usd": 10, "on_exceeded": "reject"})) as lane,
    ):
        answers = await asyncio.gather(*(ask(lane, chat(body)) for _ in range(200)))
        spent = await spent_in(lane)
        assert spent == pytest.approx(sum(record.cost for record in lane.records))
    cost = max_tokens / 10
    assert 10 <= spent <= 10 + cost
    served = Counter(answer.status for answer in answers)
    assert served == {200: round(spent / cost), 402: 200 - round(spent / cost)}
    assert len(stub.calls) == served[200]


async def test_200_parallel_requests_spend_on_the_fine_tune_what_it_was_given_and_all_are_answered() -> None:
    """ACCEPTANCE 41: `baseline` bounds the fine-tune's share; the rest is served for a tenth of it."""
    async with (
        Stub(StubConfig(latency=0.1)) as stub,
        running(budgeted(stub.url, {"daily_usd": 10, "on_exceeded": "baseline"})) as lane,
    ):
        answers = await ask_at_once(lane, 200)
        spent = await spent_in(lane)
        by_model = Counter(record.served for record in lane.records)
    assert {answer.status for answer in answers} == {200}
    assert by_model == {FINETUNED: 10, BASELINE: 190}
    assert spent == pytest.approx(10 + 19)


async def test_answer_of_unknown_length_reserves_for_what_the_agents_answers_were() -> None:
    async with Stub(StubConfig(latency=0.1)) as stub, running(budgeted(stub.url, {"daily_usd": 100})) as lane:
        for tokens in (500, 500 + (12 - 500) / 16):  # the stub says twelve words
            asking = asyncio.create_task(ask(lane, chat(chat_body())))
            await eventually(lambda: lane.service.exchange.in_flight == 1)
            assert status_of(lane).reserved == round(tokens) / 10
            assert (await asking).status == 200
            await lane.idle()


async def test_agents_without_a_budget_are_not_counted() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {})) as lane:
        assert {answer.status for answer in await ask_at_once(lane, 5)} == {200}
        exchange = lane.service.exchange
        assert list(exchange.budgets.status(exchange.policy, 0.0)) == []
        assert sum(record.cost for record in lane.records) == pytest.approx(5)


# --- over budget ------------------------------------------------------------------------------------


async def test_over_budget_the_baseline_serves_and_assignment_stays() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1})) as lane:
        assert (await ask(lane, chat(DOLLAR))).status == 200
        assert_rescued(await ask(lane, chat(DOLLAR)), "budget", attempts=1)
        record = await lane.record(2)
        assert calls_by_model(stub) == {FINETUNED: 1, BASELINE: 1}
    assert (record.decision.variant, record.decision.assignment) == ("finetuned", "finetuned")
    assert (record.fallback, record.failure, record.served) == ("budget", None, BASELINE)
    assert record.cost == pytest.approx(0.1)
    assert [attempt.model for attempt in record.attempts] == [BASELINE]


async def test_streams_too_are_served_by_the_baseline() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1})) as lane:
        body = DOLLAR[:-1] + b', "stream": true}'
        await ask(lane, chat(body))
        assert_rescued(await ask(lane, chat(body)), "budget", attempts=1)
        assert await spent_in(lane) == pytest.approx(1.1)


async def test_baseline_serves_even_where_fallback_is_switched_off() -> None:
    async with (
        Stub() as stub,
        running(budgeted(stub.url, {"daily_usd": 1}, models={"fallback_enabled": False})) as lane,
    ):
        await ask(lane, chat(DOLLAR))
        assert_rescued(await ask(lane, chat(DOLLAR)), "budget", attempts=1)


async def test_spent_budget_counts_no_failure_of_the_fine_tune() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1})) as lane:
        for _ in range(12):
            await ask(lane, chat(DOLLAR))
        exchange = lane.service.exchange
        assert not exchange.attempts.breaker(exchange.policy.agents[b"qa_agent"].finetuned).is_open


async def test_baseline_traffic_goes_on_over_budget_and_is_counted() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1})) as lane:
        await ask(lane, chat(DOLLAR))
        answer = await ask(lane, chat(DOLLAR, user=BASELINE_USER))
        assert "fallback" not in ours(answer)
        assert answer.status == 200
        assert await spent_in(lane) == pytest.approx(1.1)


async def test_rejection_is_a_402_that_says_when_the_budget_resets() -> None:
    async with Stub() as stub:
        async with running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "reject"})) as lane:
            await ask(lane, chat(DOLLAR))
            answers = [await ask(lane, chat(DOLLAR, user=user)) for user in (FINETUNED_USER, BASELINE_USER)]
            record = await lane.record(2)
            status = status_of(lane)
        assert len(stub.calls) == 1
    resets_at = datetime.fromtimestamp(status.resets_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for answer in answers:
        error = error_of(answer)
        assert answer.status == 402
        assert (error["type"], error["code"]) == ("insufficient_quota", "budget")
        assert error["message"] == f"the daily budget is spent; it resets at {resets_at}"
        wait = int(answer.head.get(b"retry-after") or b"0")
        assert 0 < wait <= 86400
        assert abs(record.time + wait - status.resets_at) < 5
    assert (record.status, record.failure, record.served, record.cost) == (402, "budget", "", 0)
    assert (round(status.spent, 9), status.reserved) == (1, 0)


async def test_hour_that_begins_lifts_the_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()
    async with Stub() as stub, running(budgeted(stub.url, {"hourly_usd": 1, "on_exceeded": "reject"})) as lane:
        statuses = []
        for seconds in (-2.0, -1.0, 0.0, 1.0):
            monkeypatch.setattr("proxy.exchange.call.time.time", lambda now=noon + seconds: now)
            answer = await ask(lane, chat(DOLLAR))
            statuses.append((answer.status, answer.head.get(b"retry-after")))
    assert statuses == [(200, None), (402, b"1"), (200, None), (402, b"3599")]


async def test_warning_leaves_traffic_alone_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "warn"})) as lane:
        answers = [await ask(lane, chat(DOLLAR)) for _ in range(4)]
        assert await spent_in(lane) == pytest.approx(4)
    assert [ours(answer)["served"] for answer in answers] == [FINETUNED] * 4
    assert [record.levelname for record in caplog.records if record.name == "splitlane.budget"] == ["WARNING"]


async def test_agents_budget_leaves_other_agents_alone() -> None:
    own = {"qa_agent": {"budgets": {"daily_usd": 1, "on_exceeded": "reject"}}, **OTHER_AGENT}
    async with Stub() as stub, running(budgeted(stub.url, {}, agents=own)) as lane:
        assert (await ask(lane, chat(DOLLAR))).status == 200
        assert (await ask(lane, chat(DOLLAR))).status == 402
        answers = [await ask(lane, chat(DOLLAR, agent="other_agent")) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert status_of(lane, "qa_agent").spent == pytest.approx(1)


async def test_routes_that_are_passed_through_go_on_over_budget() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "reject"})) as lane:
        await ask(lane, chat(DOLLAR))
        assert (await ask(lane, chat(DOLLAR))).status == 402
        assert (await ask(lane, chat(b'{"model":"m","input":"hi"}', target="/v1/embeddings"))).status == 200
        assert (await ask(lane, chat(agent="stranger"))).status == 200


# --- in the SDKs ------------------------------------------------------------------------------------


async def test_openai_sdk_raises_at_once_and_shows_code_and_time_to_wait() -> None:
    async with (
        Stub() as stub,
        running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "reject"})) as lane,
        openai.AsyncOpenAI(
            base_url=f"{lane.url}/v1", api_key="k", default_headers={"x-agent": "qa_agent"}
        ) as client,  # with the retries it has by default
    ):
        await ask(lane, chat(DOLLAR))
        async with asyncio.timeout(2):
            for stream in (False, True):
                with pytest.raises(openai.APIStatusError) as caught:
                    await client.chat.completions.create(
                        model="m", messages=MESSAGES, max_tokens=10, user=FINETUNED_USER, stream=stream
                    )
        error = caught.value
        assert (error.status_code, error.code, error.type) == (402, "budget", "insufficient_quota")
        assert "it resets at" in error.message
        assert int(error.response.headers["retry-after"]) > 0
        assert len(lane.records) == 3  # it did not try again


async def test_mistralai_sdk_raises_at_once() -> None:
    async with (
        Stub() as stub,
        running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "reject"})) as lane,
        Mistral(server_url=f"{lane.url}/agents/qa_agent", api_key="k") as client,
    ):
        await ask(lane, chat(DOLLAR))
        async with asyncio.timeout(2):
            with pytest.raises(SDKError, match="it resets at") as caught:
                await client.chat.complete_async(model="m", messages=MESSAGES, max_tokens=10)
        assert caught.value.status_code == 402
        assert len(lane.records) == 2

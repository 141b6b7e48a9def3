"""Tokens and money: counted when they are seen, each attempt at its own model's price."""

import asyncio
import json
from typing import Any

import pytest

from proxy.stub import Stub, StubConfig
from proxy.words import Dialect, Failure, Record, Usage
from tests.integration.asking import ask, chat, chat_body
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, eventually, policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import RawUpstream, Read, Send, Stall, event_stream, head, response

# US dollars per million tokens, and the cost of a token that stands for 1 in the numbers below.
PRICES = {
    FINETUNED: {"input": 3000, "output": 5000, "cached_input": 1500},
    BASELINE: {"input": 1000, "output": 2000},
}
TOKEN = 1e-3


def answer(usage: dict[str, Any] | None = None, content: str | None = "fine") -> bytes:
    body: dict[str, Any] = {
        "id": "c",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
    }
    return json.dumps(body if usage is None else {**body, "usage": usage}).encode()


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


def said(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}])


async def settled(script: Any, sent: bytes, **policy: Any) -> Record:
    async with RawUpstream(script) as upstream, running(policy_of(upstream.url, prices=PRICES, **policy)) as lane:
        await ask(lane, sent)
        return await lane.record()


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("user", "prices"), [(FINETUNED_USER, (3, 5)), (BASELINE_USER, (1, 2))])
async def test_answer_costs_what_its_model_costs(
    dialect: Dialect, stream: bool, user: str, prices: tuple[int, int]
) -> None:
    upstreams = {"up": {"dialect": dialect.value}}
    async with (
        Stub(StubConfig(dialect=dialect, words=7)) as stub,
        running(policy_of(stub.url, prices=PRICES, upstreams=upstreams)) as lane,
    ):
        await ask(lane, chat(chat_body(stream=stream), user=user))
        record = await lane.record()
    usage = record.usage
    assert usage is not None
    assert not usage.estimated
    assert usage.completion > 0
    assert record.cost == pytest.approx((usage.prompt * prices[0] + usage.completion * prices[1]) * TOKEN)
    assert [attempt.cost for attempt in record.attempts] == [record.cost]


async def test_cached_and_reasoning_tokens_are_read_and_cached_ones_have_their_own_price() -> None:
    told = {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    record = await settled([Read(), Send(response(answer(told)))], chat())
    assert record.usage == Usage(100, 40, cached=60, reasoning=30)
    assert record.cost == pytest.approx((40 * 3 + 60 * 1.5 + 40 * 5) * TOKEN), "reasoning is part of the completion"


async def test_upstream_that_says_more_was_cached_than_sent_is_not_paid_for_lying() -> None:
    told = {"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 1000}}
    record = await settled([Read(), Send(response(answer(told)))], chat())
    assert record.cost == pytest.approx(10 * 1.5 * TOKEN)


async def test_rescued_request_costs_both_attempts_each_at_its_own_price() -> None:
    empty = answer({"prompt_tokens": 10, "completion_tokens": 2}, content=None)
    sound = answer({"prompt_tokens": 10, "completion_tokens": 4})

    def script(_: int) -> list[Any]:
        return [Read(), Send(response(empty)), Read(), Send(response(sound))]

    record = await settled(script, chat())
    assert record.fallback is Failure.EMPTY
    assert [attempt.cost for attempt in record.attempts] == [
        pytest.approx((10 * 3 + 2 * 5) * TOKEN),
        pytest.approx((10 * 1 + 4 * 2) * TOKEN),
    ]
    assert record.cost == pytest.approx(sum(attempt.cost for attempt in record.attempts))
    assert record.usage == Usage(20, 6)


async def test_failed_attempt_that_billed_nothing_costs_nothing() -> None:
    sound = answer({"prompt_tokens": 10, "completion_tokens": 4})
    failing = response(b'{"error":{"message":"x","type":"server_error","code":null,"param":null}}', 500)
    record = await settled(lambda _: [Read(), Send(failing), Read(), Send(response(sound))], chat())
    assert [attempt.cost for attempt in record.attempts] == [0.0, pytest.approx((10 * 1 + 4 * 2) * TOKEN)]
    assert record.attempts[0].usage is None


async def test_retried_baseline_costs_the_attempt_that_answered() -> None:
    sound = answer({"prompt_tokens": 10, "completion_tokens": 4})
    busy = response(b"{}", 503, [("content-type", "application/json"), ("retry-after-ms", "1")])
    record = await settled(lambda _: [Read(), Send(busy), Read(), Send(response(sound))], chat(user=BASELINE_USER))
    assert len(record.attempts) == 2
    assert record.cost == pytest.approx((10 * 1 + 4 * 2) * TOKEN)


async def test_answer_without_usage_is_estimated_and_marked_so() -> None:
    sent = chat_body(messages=[{"role": "user", "content": "word " * 100}])
    record = await settled([Read(), Send(response(answer()))], chat(sent))
    assert record.usage is not None
    assert record.usage.estimated
    assert record.usage.prompt == len(sent) // 4
    assert record.usage.completion == len(answer()) // 4
    assert record.cost > 0


async def test_stream_without_usage_is_counted_event_by_event() -> None:
    events = event_stream(*[said("word") for _ in range(9)], b"data: [DONE]\n\n")
    record = await settled([Read(), Send(events)], chat(chat_body(stream=True)))
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated) == (9, True)
    assert record.usage.prompt > 0


async def test_client_that_leaves_in_the_middle_pays_for_what_it_saw() -> None:
    opening = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    events = b"".join(b"%x\r\n%b\r\n" % (len(said("w")), said("w")) for _ in range(5))
    async with (
        RawUpstream([Read(), Send(opening + events), Stall()]) as upstream,
        running(policy_of(upstream.url, prices=PRICES)) as lane,
    ):
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat(chat_body(stream=True)))
            await client.read_head()
            await client.read_chunk()
        record = await lane.record()
    assert record.failure is Failure.CLIENT_GONE
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated) == (5, True)
    assert record.cost == pytest.approx((record.usage.prompt * 3 + 5 * 5) * TOKEN)


async def test_client_that_leaves_before_the_answer_has_an_attempt_on_record_and_costs_nothing() -> None:
    async with (
        RawUpstream([Read(), Stall()]) as upstream,
        running(policy_of(upstream.url, prices=PRICES)) as lane,
    ):
        async with RawClient(lane.host, lane.port) as client:
            await client.send(chat())
            await eventually(lambda: len(upstream.requests) == 1)
            await asyncio.sleep(0.05)
        record = await lane.record()
    (attempt,) = record.attempts
    assert (attempt.model, attempt.status, attempt.failure) == (FINETUNED, 0, Failure.CLIENT_GONE)
    assert attempt.seconds > 0.04
    assert record.latency - record.blocked < 0.04, "waiting for the upstream is none of our own time"
    assert record.cost == 0.0


async def test_model_without_a_price_is_counted_and_costs_nothing() -> None:
    told = {"prompt_tokens": 10, "completion_tokens": 4}
    async with (
        RawUpstream([Read(), Send(response(answer(told)))]) as upstream,
        running(policy_of(upstream.url)) as lane,
    ):
        await ask(lane, chat())
        record = await lane.record()
    assert record.usage == Usage(10, 4)
    assert record.cost == 0.0


async def test_response_id_is_kept_from_json_and_streams_and_one_that_is_no_name_is_not() -> None:
    plain = await settled([Read(), Send(response(answer()))], chat())
    streamed = await settled([Read(), Send(event_stream(said("w"), b"data: [DONE]\n\n"))], chat(chat_body(stream=True)))
    assert plain.response_id == streamed.response_id == "c"
    for name in ("a" * 129, "with space", "line\nbreak", "null\u0000", 7, None):
        odd = json.dumps({**json.loads(answer()), "id": name}).encode()
        record = await settled([Read(), Send(response(odd))], chat())
        assert record.response_id == ""

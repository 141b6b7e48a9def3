"""ACCEPTANCE 37 and 38: the numbers on `/metrics` add up, and there are never more of them."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from proxy.stub import Stub
from proxy.words import Feedback
from tests.integration.asking import ANSWER, ask, chat, chat_body
from tests.support.lane import BASELINE_USER, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import RawUpstream, Read, Send

QUICK: dict[str, Any] = {
    "upstreams": {"up": {"timeouts": {"first_byte": "150ms", "first_content": "150ms", "idle": "150ms"}}},
    "fallback": {"retry": {"baseline": 0}, "breaker": {"failures": 10_000}},  # each fault is met
    "limits": {"max_body": "10KiB", "request_body": "200ms"},
}
SLOW = chat(headers=[("x-stub-fault", "slow=0.1")])
FAULTS = [
    "status=500",
    "status=429,retry_after=0",
    "status=400",
    "auth",
    "context_length",
    "content_filter",
    "model_gone",
    "reset",
    "silence",
    "null",
    "not_json",
    "error_200",
    "empty",
    "cut=1",
    "stall=1",
    "error_first",
    "error=1",
    "role_only",
    "malformed=1",
    "no_done",
    "no_usage",
]


async def scrape(lane: Lane) -> list[Sample]:
    address = lane.service.admin
    async with RawClient(address.host, address.port) as client:
        await client.send(request("GET", "/metrics"))
        text = (await client.read_response()).body.decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def total(samples: list[Sample], name: str, **labels: str) -> int:
    """The sum of a metric over all series that have `labels`."""
    return int(sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items()))


def mixed() -> Iterator[bytes]:
    """Requests of every fate that is answered."""
    for fault in FAULTS:
        for stream in (False, True):
            for user in (None, BASELINE_USER):
                yield chat(chat_body(stream=stream), user=user, headers=[("x-stub-fault", fault)])
                yield chat(chat_body(stream=stream), headers=[("x-stub-fault", fault)])
    yield from (
        chat(),
        chat(agent="nobody"),
        chat(b"[]"),
        chat(b'{"model":1,"model":2}'),
        chat(b"{}" + b" " * 20_000),
        chat(headers=[("Content-Encoding", "gzip")]),
        request("GET", "/v1/models"),
        request("GET", "/nowhere"),
        request("POST", "/v1/feedback", b'{"value":true}'),
        request("POST", "/v1/feedback", b'{"value":true,"response_id":"chatcmpl-1"}'),
        request("POST", "/v1/embeddings", b'{"model":"m","input":"x"}'),
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",  # too slow
    )


async def test_outcomes_add_up_to_the_requests_received_under_mixed_faults() -> None:
    """ACCEPTANCE 37: also those refused, and those whose client left."""
    requests = list(mixed())
    async with Stub() as stub, running(policy_of(stub.url, **QUICK)) as lane:
        rated: list[Feedback] = []
        lane.service.exchange.feedback = rated.append

        async def once(data: bytes) -> None:
            await ask(lane, data)

        async def leave() -> None:
            before = len(stub.calls)
            async with RawClient(lane.host, lane.port) as client:
                await client.send(SLOW)
                while len(stub.calls) == before:
                    await asyncio.sleep(0.005)

        for start in range(0, len(requests), 32):
            await asyncio.gather(*map(once, requests[start : start + 32]))
        for _ in range(3):
            await leave()
        received = len(requests) + 3
        await lane.idle()
        await lane.record(received)
        samples = await scrape(lane)
        outcomes = Counter(record.failure or "success" for record in lane.records)
    assert len(lane.records) == received
    assert len(rated) == 1
    assert total(samples, "model_requests_total") == received
    for outcome, count in outcomes.items():
        assert total(samples, "model_requests_total", outcome=outcome) == count
    assert outcomes["client_gone"] == 3
    assert total(samples, "splitlane_assignments_total") == received
    assert total(samples, "model_latency_seconds_count") == received
    assert total(samples, "splitlane_overhead_seconds_count") == received
    fallbacks = sum(record.fallback is not None for record in lane.records)
    assert total(samples, "model_fallbacks_total") == fallbacks > 0
    assert total(samples, "splitlane_in_flight") == 0


UNREADABLE = {
    "method": b"TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "target": b"GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "field": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00\r\n\r\n",
}


async def test_outcomes_add_up_when_everything_goes_wrong_at_once_and_the_proxy_ends() -> None:
    """ACCEPTANCE 37: faults, refusals, bad HTTP, clients that leave, overload and the drain's end, in one run."""
    limits = {**QUICK["limits"], "max_in_flight": 24, "drain": "100ms"}
    kinds = [*mixed(), *UNREADABLE.values(), *UNREADABLE.values()]
    random.Random(4).shuffle(kinds)
    async with Stub() as stub, running(policy_of(stub.url, **{**QUICK, "limits": limits})) as lane:

        async def leave() -> None:
            async with RawClient(lane.host, lane.port) as client:
                await client.send(SLOW)
                await asyncio.sleep(0.05)

        async def pipelined() -> None:
            async with RawClient(lane.host, lane.port) as client:
                await client.send(chat() * 4)
                for _ in range(4):
                    await client.read_response()

        batches = [kinds[start : start + 16] for start in range(0, len(kinds), 16)]
        for batch in batches:
            await asyncio.gather(*(ask(lane, data) for data in batch), leave(), pipelined())
        await asyncio.gather(*(ask(lane, SLOW) for _ in range(40)))
        await lane.idle()
        dripping = chat(chat_body(stream=True), headers=[("x-stub-fault", "drip=0.1")])
        cut = [asyncio.create_task(ask(lane, dripping)) for _ in range(5)]
        await eventually(lambda: lane.service.exchange.in_flight == 5)
        await asyncio.sleep(0.3)  # content has come, and more will
        await lane.service.stop()
        assert not any([(await each).clean_end for each in cut])
        received = len(kinds) + 5 * len(batches) + 40 + 5
        outcomes = Counter(record.failure or "success" for record in lane.records)
        registry = CollectorRegistry()
        registry.register(cast("Collector", lane.service.metrics))
        text = generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert total(samples, "model_requests_total") == received == outcomes.total()
    for outcome, count in outcomes.items():
        assert total(samples, "model_requests_total", outcome=outcome) == count
    assert outcomes["shutdown"] == 5
    assert outcomes["client_gone"] == len(batches)
    assert min(outcomes[each] for each in ("overload", "bad_request", "success", "stream_truncated")) > 0
    errors = received - outcomes["success"] - outcomes["client_gone"]
    assert total(samples, "model_errors_total") == errors


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
async def test_request_refused_by_the_listener_is_counted_too(data: bytes) -> None:
    """ACCEPTANCE 37, and DESIGN §1: one record for every request."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        assert (await ask(lane, data)).status >= 400
        await lane.idle()
        await eventually(lambda: bool(lane.records), within=2)
        assert total(await scrape(lane), "model_requests_total") == len(lane.records) == 1


async def test_scrape_right_behind_a_request_has_it() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for count in range(1, 6):
            await ask(lane, chat())
            assert total(await scrape(lane), "model_requests_total", outcome="success") == count


async def test_ten_thousand_random_agents_models_and_users_add_no_series() -> None:
    """ACCEPTANCE 38: no name that a client or an upstream makes up becomes a label."""
    dice = random.Random(5)

    def word() -> str:
        return f"w{dice.getrandbits(40):x}"

    def made_up() -> Iterator[bytes]:
        """Twelve names."""
        yield chat(chat_body(model=word()), agent=word(), user=word())
        yield chat(chat_body(model=word(), user=word()), user=word())
        yield chat(chat_body(model=word()), user=BASELINE_USER)
        yield chat(chat_body(model=word(), metadata={"agent": word()}), agent=None, user=None)
        yield request("GET", f"/agents/{word()}/v1/{word()}?{word()}")

    async with RawUpstream([Read(), Send(ANSWER)] * 5_000) as up, running(policy_of(up.url)) as lane:

        async def asks(count: int) -> None:
            async with RawClient(lane.host, lane.port) as client:
                for _ in range(count):
                    requests = list(made_up())
                    await client.send(b"".join(requests))
                    for _ in requests:
                        assert (await client.read_response()).status == 200

        await ask(lane, chat())  # fine-tuned, as chance may have it only later
        await asks(6)
        before = {(sample.name, *sorted(sample.labels.items())) for sample in await scrape(lane)}
        await asyncio.gather(*(asks(105) for _ in range(8)))
        after = {(sample.name, *sorted(sample.labels.items())) for sample in await scrape(lane)}
    assert after == before
    values = {value for _, *labels in after for _, value in labels}
    assert [value for value in values if value.startswith("w")] == ["wrong_admin_token"]

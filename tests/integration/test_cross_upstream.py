"""ACCEPTANCE 14 and 18: a Mistral fine-tune whose baseline is GPT-4o, and the other way round."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.stub import Call, Stub, StubConfig
from proxy.words import Dialect
from tests.support.lane import FINETUNED, Lane, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.rescue import CHAT, ask, ours

GPT = "gpt-4o"


@asynccontextmanager
async def two_vendors(
    candidate: Dialect,
    baseline: Dialect,
    *,
    agent: Mapping[str, Any] | None = None,
    keys: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Lane, Stub, Stub]]:
    """A lane with the fine-tune at one vendor, always failing, and the baseline at the other."""
    faults = {"*": "status=503"}
    async with (
        Stub(StubConfig(dialect=candidate, faults=faults)) as failing,
        Stub(StubConfig(dialect=baseline)) as well,
    ):
        upstreams = {
            "first": {"base_url": f"{failing.url}/tuned/eu", "dialect": candidate.value},
            "second": {"base_url": f"{well.url}/gpt", "dialect": baseline.value},
        }
        for name, key in (keys or {}).items():
            upstreams[name]["api_key"] = key
        models = {"fine_tuned": {"upstream": "first", "model": FINETUNED}}
        policy = policy_of(
            well.url,
            upstreams=upstreams,
            agents={"qa_agent": {**models, "fallback": {"upstream": "second", "model": GPT}, **(agent or {})}},
        )
        async with running(policy) as lane:
            yield lane, failing, well


async def rescued_call(lane: Lane, failing: Stub, well: Stub, body: bytes, **headers: str) -> tuple[Call, Call]:
    """One chat; the failing fine-tune's call and the baseline's."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    answer = await ask(lane, body, headers=fields)
    assert answer.status == 200, answer.body
    assert ours(answer) == {
        "agent": "qa_agent",
        "variant": "finetuned",
        "served": GPT,
        "attempts": "2",
        "fallback": "server_error",
    }
    assert len(failing.calls) == len(well.calls) == 1
    return failing.calls[0], well.calls[0]


MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


async def test_key_host_prefix_and_model_are_each_upstreams_own() -> None:
    """ACCEPTANCE 14, 18: rebuilt for every attempt; what is not ours stays."""
    body = b'{"model":"any", ' + MESSAGES + b',"temperature":1.50}'
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI, keys={"first": "sk-first", "second": "sk-second"}) as lanes:
        first, second = await rescued_call(*lanes, body, Authorization="Bearer sk-client", X_Trace="t", Cookie="c=1")
        for call, stub, prefix, key, model in (
            (first, lanes[1], b"/tuned/eu", "sk-first", FINETUNED),
            (second, lanes[2], b"/gpt", "sk-second", GPT),
        ):
            assert call.target == prefix + CHAT.encode()
            assert call.all_headers("host") == [f"127.0.0.1:{stub.port}"]
            assert call.all_headers("authorization") == [f"Bearer {key}"]
            assert call.all_headers("content-length") == [str(len(call.body))]
            assert call.all_headers("x-trace") == ["t"]
            assert call.body == body.replace(b'"any"', json.dumps(model).encode())
            assert b"sk-client" not in b"".join(value for _, value in call.headers)


@pytest.mark.parametrize("own", ["first", "second"])
async def test_clients_key_goes_only_where_the_policy_has_none(own: str) -> None:
    """ACCEPTANCE 14, 18: neither upstream sees the other's key."""
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI, keys={own: "sk-own"}) as lanes:
        calls = await rescued_call(*lanes, b"{" + MESSAGES + b"}", authorization="Bearer sk-client")
    keys = [call.all_headers("authorization") for call in calls]
    assert keys == [["Bearer sk-own"], ["Bearer sk-client"]][:: 1 if own == "first" else -1]


async def test_no_key_anywhere_is_no_header() -> None:
    """ACCEPTANCE 14."""
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI) as lanes:
        calls = await rescued_call(*lanes, b"{" + MESSAGES + b"}")
    assert [call.all_headers("authorization") for call in calls] == [[], []]


# What the client sends, what Mistral gets of it, and what OpenAI gets.
DIALECTS = {
    "nothing-special": (b'"top_p":0.5', b'"top_p":0.5', b'"top_p":0.5'),
    "seed": (b'"seed":7', b'"random_seed":7', b'"seed":7'),
    "random-seed": (b'"random_seed": 7', b'"random_seed": 7', b'"seed": 7'),
    "max-tokens": (b'"max_tokens":9', b'"max_tokens":9', b'"max_tokens":9'),
    "max-completion-tokens": (
        b'"max_completion_tokens":9',
        b'"max_tokens":9',
        b'"max_completion_tokens":9',
    ),
    "refused-by-mistral": (b'"logit_bias":{"1":2},"top_p":1.0,"store":true', b'"top_p":1.0', None),
    "refused-by-openai": (b'"safe_prompt":true,"top_p":1.0,"prompt_mode":"reasoning"', None, b'"top_p":1.0'),
    "escaped-name": (b'"s\\u0065ed":7', b'"random_seed":7', b'"s\\u0065ed":7'),
}


@pytest.mark.parametrize("mistral_first", [True, False], ids=["mistral-first", "openai-first"])
@pytest.mark.parametrize(("sent", "mistral", "openai"), DIALECTS.values(), ids=DIALECTS)
async def test_fields_are_renamed_or_dropped_for_each_dialect(
    sent: bytes, mistral: bytes | None, openai: bytes | None, mistral_first: bool
) -> None:
    """ACCEPTANCE 18: both stubs refuse what their vendor refuses; every other byte stays."""
    order = [Dialect.MISTRAL, Dialect.OPENAI][:: 1 if mistral_first else -1]
    body = b'{"model":"any", ' + MESSAGES + b"," + sent + b"\n}"
    async with two_vendors(order[0], order[1]) as lanes:
        calls = dict(zip(order, await rescued_call(*lanes, body), strict=True))
    for dialect, expected in ((Dialect.MISTRAL, mistral), (Dialect.OPENAI, openai)):
        model = json.dumps(GPT if dialect is order[1] else FINETUNED).encode()
        wanted = body.replace(b'"any"', model).replace(sent, sent if expected is None else expected)
        assert calls[dialect].body == wanted


async def test_params_of_the_policy_are_added_for_each_upstream() -> None:
    """ACCEPTANCE 14, 18: where the client sent none, under either name."""
    agent = {"max_tokens": 77, "temperature": 0.5}
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI, agent=agent) as lanes:
        first, second = await rescued_call(*lanes, b'{"model":"any",' + MESSAGES + b',"seed":1}')
    assert {key: first.json().get(key) for key in ("max_tokens", "temperature", "random_seed")} == {
        "max_tokens": 77,
        "temperature": 0.5,
        "random_seed": 1,
    }
    assert {key: second.json().get(key) for key in ("max_tokens", "temperature", "seed")} == {
        "max_tokens": 77,
        "temperature": 0.5,
        "seed": 1,
    }


async def test_params_of_the_client_win_under_any_name() -> None:
    """ACCEPTANCE 14, 18."""
    agent = {"max_tokens": 77, "temperature": 0.5}
    body = b'{"model":"any",' + MESSAGES + b',"max_completion_tokens":3,"temperature":0}'
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI, agent=agent) as lanes:
        first, second = await rescued_call(*lanes, body)
    assert (first.json()["max_tokens"], first.json()["temperature"]) == (3, 0)
    assert (second.json()["max_completion_tokens"], second.json()["temperature"]) == (3, 0)
    assert "max_tokens" not in second.json()


async def test_stream_is_rescued_across_vendors_and_asks_only_openai_for_usage() -> None:
    """ACCEPTANCE 18, 22."""
    body = b'{"model":"any",' + MESSAGES + b',"stream":true}'
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI) as lanes:
        first, second = await rescued_call(*lanes, body)
        record = await lanes[0].record()
    assert "stream_options" not in first.json()
    assert second.json()["stream_options"] == {"include_usage": True}
    assert record.usage is not None
    assert not record.usage.estimated


async def counters(lane: Lane) -> dict[str, float]:
    """Every counter of a scrape."""
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", "/metrics"))
        text = (await client.read_response()).body.decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in samples if "_total{" in series}


async def test_adapted_fields_are_counted() -> None:
    """ACCEPTANCE 18: dropping or renaming what a client sent moves a counter that nothing else moves."""
    moved = []
    async with two_vendors(Dialect.MISTRAL, Dialect.OPENAI) as (lane, failing, well):
        for fields in (b"", b',"logit_bias":{"1":2},"seed":3'):
            before = await counters(lane)
            await rescued_call(lane, failing, well, b'{"model":"any",' + MESSAGES + fields + b"}")
            after = await counters(lane)
            moved.append({series for series, value in after.items() if value != before.get(series)})
            failing.calls.clear()
            well.calls.clear()
    assert moved[1] - moved[0]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"old","user":"u","messages":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"model":"old","user":"u"' + b"".join(b',"%d":0' % number for number in range(1500)) + b"}",
    ],
    ids=["deep", "many members"],
)
async def test_body_that_cannot_be_adapted_is_refused_before_the_first_attempt(raw: bytes) -> None:
    """Not by the fallback to another vendor: by then the client would get a 400 for the model's failure."""
    async with two_vendors(Dialect.OPENAI, Dialect.MISTRAL) as (lane, failing, well):
        answer = await ask(lane, raw)
        assert answer.status == 400
        assert (failing.calls, well.calls) == ([], [])

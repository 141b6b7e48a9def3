"""ACCEPTANCE 8: our own errors are the right exception, with real nulls, in both vendors' SDKs."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import openai
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import MistralError, ResponseValidationError, SDKError

from tests.support.lane import Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import (
    Action,
    Pause,
    RawUpstream,
    Read,
    Reset,
    Script,
    Send,
    Stall,
    event_stream,
    response,
)
from tests.support.wire import ANSWER, CHAT, chat

HELLO: list[Any] = [{"role": "user", "content": "hi"}]
LONG: list[Any] = [{"role": "user", "content": "x" * 5000}]
IDENTITY = {"x-agent": "qa_agent", "x-user-id": "user-42"}
FAST = {"first_byte": "100ms", "first_content": "100ms"}
CONTENT = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
PING = b": ping\n\n"


class Case(NamedTuple):
    """A situation in which the proxy itself answers."""

    script: Script
    status: int
    code: str
    kind: str  # OpenAI's `type`
    error: type[openai.APIStatusError]
    retry_after: str | None = None
    changes: Mapping[str, Any] = MappingProxyType({})
    stream: bool = False


UNREACHED, INVALID = "api_connection_error", "invalid_request_error"
SERVER = openai.InternalServerError
PINGED = Send(event_stream(PING, end=False))
NOBODY = {"user": ["header:x-nothing"], "on_missing_user": "reject"}

CASES = {
    "reset": Case([Read(), Reset()], 502, "reset", UNREACHED, SERVER, "1"),
    "silent": Case([Read(), Stall()], 504, "first_byte_timeout", "timeout_error", SERVER),
    "no content": Case([Read(), PINGED, Stall()], 504, "first_content_timeout", "timeout_error", SERVER, stream=True),
    "cut before content": Case(
        [Read(), PINGED, Reset()], 502, "stream_truncated", "server_error", SERVER, "1", stream=True
    ),
    "no HTTP": Case([Read(), Send(b"SSH-2.0-x\r\n\r\n"), Stall()], 502, "bad_body", "server_error", SERVER, "1"),
    "too large": Case(
        [Read()],
        413,
        "body_too_large",
        INVALID,
        openai.APIStatusError,
        None,
        {"limits": {"max_body": "4KiB"}},
    ),
    "no user": Case([Read()], 400, "missing_user", INVALID, openai.BadRequestError, None, {"identity": NOBODY}),
    "bad variant": Case(
        [Read()],
        400,
        "bad_request",
        INVALID,
        openai.BadRequestError,
        None,
        {"identity": {"allow_override": True}},
    ),
}


@asynccontextmanager
async def failing(case: Case) -> AsyncIterator[Lane]:
    """A proxy in that situation; everybody is on the baseline, which is asked once, and is waited for only to fail."""
    settings: dict[str, Any] = {"fallback": {"retry": {"baseline": 0}}, **case.changes}
    if case.kind == "timeout_error":
        settings["upstreams"] = {"up": {"timeouts": FAST}}
    async with RawUpstream(case.script) as upstream, running(policy_of(upstream.url, **settings)) as lane:
        yield lane


def headers_of(name: str) -> dict[str, str]:
    return {**IDENTITY, "x-splitlane-variant": "neither"} if name == "bad variant" else IDENTITY


def messages_of(case: Case) -> list[Any]:
    return LONG if case.code == "body_too_large" else HELLO


@pytest.mark.parametrize("name", CASES)
async def test_own_error_is_the_openai_sdks_exception(name: str) -> None:
    case = CASES[name]
    async with (
        failing(case) as lane,
        openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(case.error) as raised:
            await client.chat.completions.create(
                model="m", messages=messages_of(case), stream=case.stream, extra_headers=headers_of(name)
            )
    error = raised.value
    assert type(error) is case.error
    assert (error.status_code, error.code, error.type, error.param) == (
        case.status,
        case.code,
        case.kind,
        None,
    )
    assert error.body == {
        "message": error.response.json()["error"]["message"],
        "type": case.kind,
        "param": None,
        "code": case.code,
    }
    assert error.response.headers["content-type"] == "application/json"
    assert error.response.headers.get("retry-after") == case.retry_after
    assert error.response.headers.get("x-should-retry") == ("false" if case.retry_after is None else None)


@pytest.mark.parametrize("name", CASES)
async def test_own_error_is_the_mistral_sdks_exception(name: str) -> None:
    case = CASES[name]
    async with failing(case) as lane, Mistral(server_url=lane.url, api_key="k") as client:
        ask = client.chat.stream_async if case.stream else client.chat.complete_async
        with pytest.raises(SDKError) as raised:
            await ask(model="m", messages=messages_of(case), http_headers=headers_of(name))
    error = json.loads(raised.value.body)["error"]
    assert raised.value.status_code == case.status
    assert (error["type"], error["param"], error["code"]) == (case.kind, None, case.code)


async def test_unreachable_upstream_is_a_502_in_both_sdks() -> None:
    async with RawUpstream([Read()]) as closed:
        url = closed.url
    async with (
        running(policy_of(url, fallback={"retry": {"baseline": 0}})) as lane,
        openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k", max_retries=0) as theirs,
        Mistral(server_url=lane.url, api_key="k") as mistral,
    ):
        with pytest.raises(openai.InternalServerError) as raised:
            await theirs.chat.completions.create(model="m", messages=HELLO, extra_headers=IDENTITY)
        assert (raised.value.status_code, raised.value.code) == (502, "connect")
        with pytest.raises(SDKError) as answered:
            await mistral.models.list_async()
        assert (answered.value.status_code, json.loads(answered.value.body)["error"]["param"]) == (502, None)


async def test_overload_is_a_503_in_both_sdks() -> None:
    async with (
        RawUpstream([Read(), Stall()]) as upstream,
        running(policy_of(upstream.url, limits={"max_in_flight": 1})) as lane,
        RawClient(lane.host, lane.port) as other,
        openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k", max_retries=0) as theirs,
        Mistral(server_url=lane.url, api_key="k") as mistral,
    ):
        await other.send(chat())
        await eventually(lambda: len(upstream.requests) == 1)
        with pytest.raises(openai.InternalServerError) as raised:
            await theirs.chat.completions.create(model="m", messages=HELLO, extra_headers=IDENTITY)
        assert (raised.value.status_code, raised.value.code, raised.value.param) == (503, "overload", None)
        assert raised.value.response.headers["retry-after"] == "1"
        with pytest.raises(SDKError) as answered:
            await mistral.chat.complete_async(model="m", messages=HELLO, http_headers=IDENTITY)
        assert (answered.value.status_code, json.loads(answered.value.body)["error"]["code"]) == (
            503,
            "overload",
        )


async def test_sdk_does_not_repeat_what_waiting_does_not_help() -> None:
    """`x-should-retry: false` is obeyed with the SDK's own two retries on."""
    async with (
        failing(CASES["silent"]) as lane,
        openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k") as client,
    ):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="m", messages=HELLO, extra_headers=IDENTITY)
        await lane.record()
        assert len(lane.records) == 1


async def test_sdk_repeats_after_retry_after_where_waiting_helps() -> None:
    script: list[Action] = [Read(), Pause(0.3), Send(response(ANSWER))]
    async with (
        RawUpstream(script) as upstream,
        running(policy_of(upstream.url, limits={"max_in_flight": 1})) as lane,
        RawClient(lane.host, lane.port) as other,
        openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k", max_retries=1) as client,
    ):
        await other.send(chat())
        await eventually(lambda: len(upstream.requests) == 1)
        answer = await client.chat.completions.create(model="m", messages=HELLO, extra_headers=IDENTITY)
        assert answer.choices[0].message.content == "hi"
        assert [record.status for record in lane.records] == [503, 200, 200]


async def test_stream_that_breaks_raises_in_both_sdks() -> None:
    script: list[Action] = [Read(), Send(event_stream(CONTENT, end=False)), Pause(0.05), Reset()]
    async with (
        failing(Case(script, 200, "", "", openai.APIStatusError)) as lane,
        openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k", max_retries=0) as theirs,
        Mistral(server_url=lane.url, api_key="k") as mistral,
    ):
        stream = await theirs.chat.completions.create(model="m", messages=HELLO, stream=True, extra_headers=IDENTITY)
        assert (await anext(stream)).choices[0].delta.content == "hi"
        with pytest.raises(openai.APIError) as raised:
            await anext(stream)
        broken = raised.value
        assert (broken.code, broken.type, broken.param) == ("stream_truncated", "server_error", None)
        async with await mistral.chat.stream_async(model="m", messages=HELLO, http_headers=IDENTITY) as events:
            assert (await anext(events)).data.choices[0].delta.content == "hi"
            with pytest.raises(ResponseValidationError, match="stream_truncated") as told:
                await anext(events)
        assert isinstance(told.value, MistralError)


RAW = {
    "no JSON": (request("POST", CHAT, b"{"), 400),
    "two models": (request("POST", CHAT, b'{"model":"a","model":"b"}'), 400),
    "compressed": (request("POST", CHAT, b"\x1f\x8b", [("Content-Encoding", "gzip")]), 415),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "two hosts": (request("GET", "/v1/models", headers=[("Host", "other")]), 400),
    "malformed": (b"GET\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "TRACE": (request("TRACE", "/v1/models"), 405),
    "bad chunk": (request("POST", CHAT, headers=[("Transfer-Encoding", "chunked")]) + b"zz\r\n", 400),
    "other coding": (request("POST", CHAT, headers=[("Transfer-Encoding", "gzip, chunked")]), 400),
}


@pytest.mark.parametrize("name", RAW)
async def test_every_refusal_is_openais_error_object(name: str) -> None:
    raw, status = RAW[name]
    async with RawUpstream([Read()]) as upstream, running(policy_of(upstream.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(raw)
            answer = await client.read_response()
        assert answer.status == status
        error = json.loads(answer.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
        assert answer.head.all(b"content-type") == [b"application/json"]
        assert answer.head.all(b"x-should-retry") == [b"false"]
        assert not upstream.requests

"""The real Mistral SDK against the stub."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import HTTPValidationError, SDKError
from mistralai.client.models import ChatCompletionRequest, EmbeddingRequest, FIMCompletionRequest

from proxy.stub import Stub, StubConfig
from proxy.stub.dialect import MISTRAL_FIELDS
from proxy.words import Dialect

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
    }
]


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as running:
        yield running


@pytest.fixture
async def client(stub: Stub) -> AsyncIterator[Mistral]:
    async with Mistral(server_url=stub.url, api_key="key", timeout_ms=5000) as made:
        yield made


async def test_chat(client: Mistral, stub: Stub) -> None:
    answer = await client.chat.complete_async(model="open-mistral-7b", messages=HELLO)
    content = answer.choices[0].message.content if answer.choices[0].message else None
    assert str(content).startswith("Answer from open-mistral-7b: ")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 12)
    assert stub.calls[0].header("authorization") == "Bearer key"


async def test_stream_has_usage_in_its_last_chunk_only(client: Mistral) -> None:
    async with await client.chat.stream_async(model="m", messages=HELLO) as stream:
        chunks = [each.data async for each in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(str(each.choices[0].delta.content) for each in chunks).startswith("Answer from m: ")
    assert all(not each.usage for each in chunks[:-1])
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_tool_call_comes_whole(client: Mistral) -> None:
    messages = [{"role": "user", "content": "call a tool"}]
    answer = await client.chat.complete_async(model="m", messages=messages, tools=TOOLS)  # type: ignore[arg-type]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message is not None
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert call.function.name == "weather"
    assert json.loads(str(call.function.arguments)) == {"city": "stub"}
    assert call.id is not None
    assert len(call.id) == 9
    async with await client.chat.stream_async(model="m", messages=messages, tools=TOOLS) as stream:  # type: ignore[arg-type]
        chunks = [each.data async for each in stream]
    last = chunks[-1].choices[0]
    assert last.finish_reason == "tool_calls"
    assert isinstance(last.delta.tool_calls, list)
    assert json.loads(str(last.delta.tool_calls[0].function.arguments)) == {"city": "stub"}


async def test_json_mode(client: Mistral) -> None:
    answer = await client.chat.complete_async(model="m", messages=HELLO, response_format={"type": "json_object"})
    assert answer.choices[0].message is not None
    assert json.loads(str(answer.choices[0].message.content))["model"] == "m"


async def test_models(client: Mistral) -> None:
    listed = await client.models.list_async()
    assert "open-mistral-7b" in [getattr(each, "id", None) for each in listed.data or []]
    assert (await client.models.retrieve_async(model_id="ft:open-mistral-7b:x:y")).type == "fine-tuned"


async def test_embeddings(client: Mistral) -> None:
    answer = await client.embeddings.create_async(model="mistral-embed", inputs=["one two", "three"])
    assert [len(each.embedding or []) for each in answer.data] == [8, 8]
    assert answer.usage.prompt_tokens == 3


async def test_fim(client: Mistral) -> None:
    answer = await client.fim.complete_async(model="codestral-latest", prompt="def f(", suffix="return x")
    assert answer.choices[0].message is not None
    assert str(answer.choices[0].message.content).startswith("Answer from codestral-latest:")
    assert answer.usage.prompt_tokens == 4
    async with await client.fim.stream_async(model="codestral-latest", prompt="def f(") as stream:
        chunks = [each.data async for each in stream]
    assert chunks[-1].usage is not None


async def test_unknown_model_is_code_1500() -> None:
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL, models=("known",))) as stub,
        Mistral(server_url=stub.url, api_key="key") as client,
    ):
        with pytest.raises(SDKError) as raised:
            await client.chat.complete_async(model="retired", messages=HELLO)
    assert raised.value.status_code == 400
    body = json.loads(raised.value.body)
    assert (body["message"], body["code"]) == ("Invalid model: retired", "1500")
    assert raised.value.headers["mistral-correlation-id"]


@pytest.mark.parametrize(
    ("spec", "status", "shown"),
    [
        ("status=429", 429, '"code":"1300"'),
        ("status=503", 503, '"object":"error"'),
        ("auth", 401, "Unauthorized"),
        ("context_length", 400, '"code":"3051"'),
        ("model_gone", 400, '"code":"1500"'),
    ],
)
async def test_error_is_the_sdks(client: Mistral, spec: str, status: int, shown: str) -> None:
    with pytest.raises(SDKError) as raised:
        await client.chat.complete_async(model="m", messages=HELLO, http_headers={"x-stub-fault": spec})
    assert raised.value.status_code == status
    assert shown in raised.value.body


@pytest.mark.parametrize("name", ["user", "stream_options", "seed", "store", "max_completion_tokens", "logit_bias"])
async def test_openais_fields_are_forbidden(stub: Stub, name: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stub.url}/v1", api_key="k", max_retries=0) as client:
        with pytest.raises(openai.UnprocessableEntityError) as raised:
            await client.chat.completions.create(model="m", messages=HELLO, extra_body={name: 1})
    body = raised.value.response.json()
    assert body["message"]["detail"][0]["type"] == "extra_forbidden"
    assert body["message"]["detail"][0]["loc"] == ["body", name]


async def test_missing_field_is_the_sdks_validation_error(client: Mistral, stub: Stub) -> None:
    stub.set_fault("*", "status=422")
    with pytest.raises(HTTPValidationError):
        await client.chat.complete_async(model="m", messages=HELLO)


def test_accepted_fields_are_those_of_the_sdk() -> None:
    models: dict[str, type[pydantic.BaseModel]] = {
        "chat/completions": ChatCompletionRequest,
        "fim/completions": FIMCompletionRequest,
        "embeddings": EmbeddingRequest,
    }
    for endpoint, model in models.items():
        fields = {field.alias or name for name, field in model.model_fields.items()}
        assert MISTRAL_FIELDS[endpoint] == fields

"""The real OpenAI SDK against the stub."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.responses import Response

from proxy.stub import Stub, StubConfig

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            },
        },
    }
]


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with Stub(StubConfig()) as running:
        yield running


@pytest.fixture
async def client(stub: Stub) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stub.url}/v1", api_key="sk-test", max_retries=0, timeout=5) as made:
        yield made


async def test_chat_names_the_model_and_bills_words(client: openai.AsyncOpenAI, stub: Stub) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="m-1", messages=HELLO, user="u1")
    answer = raw.parse()
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    content = answer.choices[0].message.content or ""
    assert content.startswith("Answer from m-1: ")
    assert len(content.split()) == 12
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 12)
    assert answer.usage.total_tokens == 14
    assert raw.headers["x-request-id"]
    assert raw.headers["openai-processing-ms"]
    assert raw.headers["x-ratelimit-remaining-requests"]
    assert len(raw.headers.get_list("set-cookie")) == 2
    call = stub.calls[0]
    assert (call.method, call.path, call.model, call.stream) == ("POST", "/v1/chat/completions", "m-1", False)
    assert call.json()["user"] == "u1"
    assert call.header("Authorization") == "Bearer sk-test"
    assert call.finished


async def test_same_request_same_content(client: openai.AsyncOpenAI) -> None:
    answers = [await client.chat.completions.create(model="m", messages=HELLO, max_tokens=30) for _ in range(2)]
    first, second = (each.choices[0].message.content for each in answers)
    assert first == second
    assert len((first or "").split()) == 30


@pytest.mark.parametrize(
    ("prompt", "limit", "words", "finish"),
    [("hi", 5, 5, "length"), ("in 7 words", 4096, 7, "stop"), ("in 90 words", 20, 20, "length")],
)
async def test_length(client: openai.AsyncOpenAI, prompt: str, limit: int, words: int, finish: str) -> None:
    answer = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": prompt}], max_completion_tokens=limit
    )
    assert len((answer.choices[0].message.content or "").split()) == words
    assert answer.choices[0].finish_reason == finish


async def test_several_choices_are_all_billed(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=HELLO, n=3)
    assert [each.index for each in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 36


async def collect(client: openai.AsyncOpenAI, **options: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model="m", stream=True, **options)
    return [ChatCompletionChunk.model_validate(each.model_dump(), strict=True) async for each in stream]


async def test_stream_is_role_then_words_then_finish(client: openai.AsyncOpenAI) -> None:
    chunks = await collect(client, messages=HELLO)
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    text = "".join(each.choices[0].delta.content or "" for each in chunks)
    whole = await client.chat.completions.create(model="m", messages=HELLO)
    assert text == whole.choices[0].message.content
    assert len(chunks) == 1 + 12 + 1
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in each.model_fields_set or each.usage is None for each in chunks)


async def test_stream_with_usage_has_it_in_a_chunk_of_its_own(client: openai.AsyncOpenAI, stub: Stub) -> None:
    chunks = await collect(client, messages=HELLO, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14
    assert all(each.usage is None for each in chunks[:-1])
    assert stub.calls[0].stream


async def test_tool_call_and_the_answer_after_it(client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "please call a tool"}]
    answer = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    call = (choice.message.tool_calls or [])[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "stub", "days": 7}
    messages += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    answer = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    assert (answer.choices[0].message.content or "").startswith("Answer from m:")


async def test_tool_call_streams_its_arguments(client: openai.AsyncOpenAI) -> None:
    chunks = await collect(
        client, messages=[{"role": "user", "content": "call a tool"}], tools=TOOLS, tool_choice="auto"
    )
    deltas = [delta for each in chunks for delta in each.choices[0].delta.tool_calls or []]
    assert deltas[0].function is not None
    assert (deltas[0].function.name, deltas[0].id is not None) == ("weather", True)
    arguments = "".join(each.function.arguments or "" for each in deltas if each.function)
    assert json.loads(arguments) == {"city": "stub", "days": 7}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_json_mode(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=HELLO, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content or "")["model"] == "m"
    chunks = await collect(client, messages=HELLO, response_format={"type": "json_object"})
    assert json.loads("".join(each.choices[0].delta.content or "" for each in chunks))["model"] == "m"


async def test_json_schema_is_followed(client: openai.AsyncOpenAI) -> None:
    tags = {"type": "array", "items": {"enum": ["a", "b"]}}
    schema: dict[str, object] = {"type": "object", "properties": {"tags": tags}}
    answer = await client.chat.completions.create(
        model="m",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "") == {"tags": ["a"]}


async def test_models(client: openai.AsyncOpenAI) -> None:
    listed = [each.id async for each in client.models.list()]
    assert "gpt-4o-mini" in listed
    assert (await client.models.retrieve("ft:gpt/odd id")).id == "ft:gpt/odd id"


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    packed = await client.embeddings.create(model="e", input=["one two", "three"], dimensions=4)
    plain = await client.embeddings.create(model="e", input=["one two", "three"], dimensions=4, encoding_format="float")
    CreateEmbeddingResponse.model_validate(plain.model_dump(), strict=True)
    assert plain.usage.prompt_tokens == 3
    assert [len(each.embedding) for each in plain.data] == [4, 4]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="m", prompt="one two three")
    assert answer.choices[0].text.startswith("Answer from m:")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    stream = await client.completions.create(model="m", prompt="one two three", stream=True)
    assert "".join([each.choices[0].text async for each in stream]) == answer.choices[0].text


async def test_responses(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="m", input="one two")
    Response.model_validate(answer.model_dump())
    assert answer.output_text.startswith("Answer from m:")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 14
    events = [each async for each in await client.responses.create(model="m", input="one two", stream=True)]
    assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == (answer.output_text)
    assert events[-1].type == "response.completed"


async def test_unknown_model_is_not_found() -> None:
    async with (
        Stub(StubConfig(models=("known",))) as stub,
        openai.AsyncOpenAI(base_url=f"{stub.url}/v1", api_key="k", max_retries=0) as client,
    ):
        assert [each.id async for each in client.models.list()] == ["known"]
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model="retired", messages=HELLO)
        assert raised.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("retired")
        await client.chat.completions.create(model="known", messages=HELLO)


@pytest.mark.parametrize(
    ("spec", "error", "code"),
    [
        ("status=429,retry_after=0.3", openai.RateLimitError, "rate_limit_exceeded"),
        ("status=500", openai.InternalServerError, None),
        ("status=529", openai.InternalServerError, None),
        ("status=408", openai.APIStatusError, None),
        ("auth", openai.AuthenticationError, "invalid_api_key"),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("content_filter", openai.BadRequestError, "content_filter"),
        ("model_gone", openai.NotFoundError, "model_not_found"),
    ],
)
async def test_error_is_of_the_sdks_class(
    client: openai.AsyncOpenAI, spec: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(error) as raised:
        await client.chat.completions.create(model="m", messages=HELLO, extra_headers={"x-stub-fault": spec})
    assert raised.value.code == code
    assert raised.value.message
    assert raised.value.response.headers.get("retry-after") == ("0.3" if "retry_after" in spec else None)


@pytest.mark.parametrize(
    ("extra", "param"),
    [({"safe_prompt": True}, "safe_prompt"), ({"stream_options": {}}, "stream_options")],
)
async def test_fields_openai_refuses(client: openai.AsyncOpenAI, extra: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="m", messages=HELLO, extra_body=extra)
    assert raised.value.param == param


async def test_missing_fields_are_named(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.post("/chat/completions", body={"model": "m"}, cast_to=object)
    assert raised.value.param == "messages"


async def test_error_within_a_stream_is_raised_by_the_sdk(client: openai.AsyncOpenAI) -> None:
    for spec in ("error_first", "error=2"):
        with pytest.raises(openai.APIError, match="The server had an error"):
            await collect(client, messages=HELLO, extra_headers={"x-stub-fault": spec})

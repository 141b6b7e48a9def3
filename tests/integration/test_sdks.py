"""ACCEPTANCE 9: the vendors' SDKs and langchain-openai work through the proxy as they do without it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from mistralai.client import Mistral
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, SecretStr

from proxy.stub import Stub, StubConfig
from proxy.words import Assignment, Dialect
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, Lane, policy_of, running

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
CALL: list[Any] = [{"role": "user", "content": "please call a tool"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
SERVED = [(FINETUNED_USER, FINETUNED), (BASELINE_USER, BASELINE)]


class City(BaseModel):
    """What structured answers are parsed into."""

    city: str


class Through(NamedTuple):
    """The proxy and the stub behind it."""

    lane: Lane
    stub: Stub
    dialect: Dialect


@pytest.fixture(params=list(Dialect))
async def through(request: pytest.FixtureRequest) -> AsyncIterator[Through]:
    dialect = request.param
    async with (
        Stub(StubConfig(dialect=dialect)) as stub,
        running(policy_of(stub.url, upstreams={"up": {"dialect": dialect.value}})) as lane,
    ):
        yield Through(lane, stub, dialect)


# --- openai ---------------------------------------------------------------------------------------


@pytest.fixture
async def client(through: Through) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{through.lane.url}/v1", api_key="sk-client", max_retries=0, timeout=5,
        default_headers={"x-agent": "qa_agent"},
    ) as made:  # fmt: skip
        yield made


@pytest.mark.parametrize(("user", "model"), SERVED)
async def test_openai_chat_is_split_by_user(through: Through, client: openai.AsyncOpenAI, user: str, model: str) -> None:
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, user=user, seed=7, temperature=0.5)
    assert answer.model == model
    assert (answer.choices[0].message.content or "").startswith(f"Answer from {model}: ")
    assert answer.usage is not None
    call = through.stub.calls[0]
    assert (call.model, call.header("authorization")) == (model, "Bearer sk-upstream")
    renamed = "random_seed" if through.dialect is Dialect.MISTRAL else "seed"
    assert call.json()[renamed] == 7
    assert ("user" in call.json()) == (through.dialect is Dialect.OPENAI)
    record = await through.lane.record()
    assert record.decision.assignment is Assignment(record.decision.variant.value)
    assert record.usage is not None
    assert record.usage.completion == answer.usage.completion_tokens


@pytest.mark.parametrize("naming", ["path", "model", "metadata"])
async def test_openai_client_changes_nothing_but_its_base_url(through: Through, naming: str) -> None:
    path = "/agents/qa_agent/v1" if naming == "path" else "/v1"
    named: dict[str, Any] = {"metadata": {"agent": "qa_agent"}} if naming == "metadata" else {}
    model = "qa_agent" if naming == "model" else "gpt-4o"
    async with openai.AsyncOpenAI(base_url=through.lane.url + path, api_key="k", max_retries=0) as made:
        answer = await made.chat.completions.create(model=model, messages=HELLO, user=FINETUNED_USER, **named)
    assert answer.model == FINETUNED
    assert through.stub.calls[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(("user", "model"), SERVED)
@pytest.mark.parametrize("usage", [False, True])
async def test_openai_stream_with_and_without_usage(
    through: Through, client: openai.AsyncOpenAI, user: str, model: str, usage: bool
) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    stream = await client.chat.completions.create(model="m", messages=HELLO, user=user, stream=True, **options)
    chunks = [each async for each in stream]
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text.startswith(f"Answer from {model}: ")
    assert "�" not in text
    finished = [each.choices[0].finish_reason for each in chunks if each.choices]
    assert finished[-1] == "stop"
    told = [each.usage.completion_tokens for each in chunks if each.usage]
    # Mistral tells always, in its last chunk; OpenAI in a chunk of its own, and only who asks
    assert told == ([12] if usage or through.dialect is Dialect.MISTRAL else [])
    assert (len(chunks) > len(finished)) == (usage and through.dialect is Dialect.OPENAI)
    if through.dialect is Dialect.OPENAI:
        for each in chunks:
            ChatCompletionChunk.model_validate(each.model_dump(), strict=True)
    record = await through.lane.record()
    assert (record.stream, record.failure) == (True, None)
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated) == (12, False)


async def test_openai_stream_helper_accumulates(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="m", messages=HELLO, user=FINETUNED_USER) as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "content.delta" in events
    assert (final.choices[0].message.content or "").startswith(f"Answer from {FINETUNED}: ")


async def test_openai_stream_that_is_left_early_ends_the_upstreams(through: Through, client: openai.AsyncOpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "in 20000 words"}]
    stream = await client.chat.completions.create(model="m", messages=asked, stream=True)
    await anext(aiter(stream))
    await stream.close()
    assert (await through.lane.record()).status == 499
    await through.lane.idle()


async def test_openai_tools_called_and_answered(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=CALL, tools=TOOLS)
    message = answer.choices[0].message
    call = (message.tool_calls or [])[0]
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "stub"})
    assert answer.choices[0].finish_reason == "tool_calls"
    told = [*CALL, message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "sun"}]
    again = await client.chat.completions.create(model="m", messages=told, tools=TOOLS)
    assert (again.choices[0].message.content or "").startswith("Answer from ")


async def test_openai_tools_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="m", messages=CALL, tools=TOOLS, stream=True)
    deltas = [delta async for each in stream for choice in each.choices for delta in choice.delta.tool_calls or []]
    assert json.loads("".join(each.function.arguments or "" for each in deltas if each.function)) == {"city": "stub"}


async def test_openai_json_mode_and_parsed_answers(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="m", messages=HELLO, response_format={"type": "json_object"}, user=FINETUNED_USER
    )
    assert json.loads(answer.choices[0].message.content or "")["model"] == FINETUNED
    parsed = await client.chat.completions.parse(model="m", messages=HELLO, response_format=City)
    assert parsed.choices[0].message.parsed == City(city="stub")


async def test_openai_raw_response_has_both_the_vendors_headers_and_ours(
    through: Through, client: openai.AsyncOpenAI
) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO, user=FINETUNED_USER)
    ChatCompletion.model_validate(raw.parse().model_dump())
    assert len(raw.headers.get_list("set-cookie")) == 2
    assert raw.headers["mistral-correlation-id" if through.dialect is Dialect.MISTRAL else "x-request-id"]
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"
    assert raw.headers["x-splitlane-served"] == FINETUNED
    record = await through.lane.record()
    assert raw.headers["x-splitlane-request-id"] == record.request_id
    if through.dialect is Dialect.OPENAI:
        assert raw.request_id == raw.headers["x-request-id"]
    async with client.chat.completions.with_streaming_response.create(model="m", messages=HELLO) as streamed:
        assert json.loads(await streamed.read())["choices"]


async def test_openai_models_and_embeddings(client: openai.AsyncOpenAI) -> None:
    assert len([each.id async for each in client.models.list()]) >= 3
    assert (await client.models.retrieve("ft:gpt/odd id")).id == "ft:gpt/odd id"
    packed = await client.embeddings.create(model="e", input=["one two", "three"])
    plain = await client.embeddings.create(model="e", input=["one two", "three"], encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.model == "e"


async def test_openai_completions_and_responses(through: Through, client: openai.AsyncOpenAI) -> None:
    text = await client.completions.create(model="m", prompt="one two three")
    stream = await client.completions.create(model="m", prompt="one two three", stream=True)
    assert "".join([each.choices[0].text async for each in stream]) == text.choices[0].text
    answer = await client.responses.create(model="m", input="one two")
    events = [each async for each in await client.responses.create(model="m", input="one two", stream=True)]
    assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == answer.output_text
    assert [record.route for record in through.lane.records] == ["passthrough"] * 4


async def test_upstreams_errors_are_the_sdks_own(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="m", messages=HELLO, extra_headers={"x-stub-fault": "context_length"})
    assert "context" in raised.value.message
    with pytest.raises(openai.APIError, match="The server had an error"):
        stream = await client.chat.completions.create(
            model="m", messages=HELLO, stream=True, extra_headers={"x-stub-fault": "status=500"}
        )
        [each async for each in stream]


async def test_openai_sync_client_in_threads(through: Through) -> None:
    def ask(user: str) -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{through.lane.url}/agents/qa_agent/v1", api_key="k", max_retries=0) as made:
            answer = made.chat.completions.create(model="m", messages=HELLO, user=user)
            stream = made.chat.completions.create(model="m", messages=HELLO, user=user, stream=True)
            return answer.choices[0].message.content or "", "".join(
                each.choices[0].delta.content or "" for each in stream
            )

    answers = await asyncio.gather(*(asyncio.to_thread(ask, user) for user, _ in SERVED * 4))
    for (_, model), (whole, streamed) in zip(SERVED * 4, answers, strict=True):
        assert whole == streamed
        assert whole.startswith(f"Answer from {model}: ")


# --- mistralai ------------------------------------------------------------------------------------


@pytest.fixture
async def mistral(through: Through) -> AsyncIterator[Mistral]:
    async with Mistral(server_url=f"{through.lane.url}/agents/qa_agent", api_key="key", timeout_ms=5000) as made:
        yield made


@pytest.mark.parametrize(("user", "model"), SERVED)
async def test_mistral_chat_and_stream_are_split_by_user(mistral: Mistral, user: str, model: str) -> None:
    mine: dict[str, Any] = {
        "model": "open-mistral-7b", "messages": HELLO, "random_seed": 7, "safe_prompt": False, "metadata": {"user_id": user},
    }  # fmt: skip
    answer = await mistral.chat.complete_async(**mine)
    assert answer.choices[0].message is not None
    content = str(answer.choices[0].message.content)
    assert content.startswith(f"Answer from {model}: ")
    assert answer.usage.completion_tokens == 12
    async with await mistral.chat.stream_async(**mine) as stream:
        chunks = [each.data async for each in stream]
    assert "".join(str(each.choices[0].delta.content) for each in chunks if each.choices and each.choices[0].delta.content) == content
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "stop"


async def test_mistral_tools_and_json_mode(mistral: Mistral) -> None:
    tools: Any = TOOLS
    answer = await mistral.chat.complete_async(model="m", messages=CALL, tools=tools)
    assert answer.choices[0].message is not None
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert (call.function.name, json.loads(str(call.function.arguments))) == ("weather", {"city": "stub"})
    async with await mistral.chat.stream_async(model="m", messages=CALL, tools=tools) as stream:
        finishes = [each.data.choices[0].finish_reason async for each in stream if each.data.choices]
    assert finishes[-1] == "tool_calls"
    said = await mistral.chat.complete_async(model="m", messages=HELLO, response_format={"type": "json_object"})
    assert said.choices[0].message is not None
    assert json.loads(str(said.choices[0].message.content))["model"] == BASELINE


async def test_mistral_models_embeddings_and_fim(through: Through, mistral: Mistral) -> None:
    assert (await mistral.models.list_async()).data
    embedded = await mistral.embeddings.create_async(model="mistral-embed", inputs=["one two", "three"])
    assert [len(each.embedding or []) for each in embedded.data] == [8, 8]
    written = await mistral.fim.complete_async(model="codestral-latest", prompt="def f(", suffix="return x")
    assert written.choices[0].message is not None
    assert str(written.choices[0].message.content).startswith("Answer from codestral-latest:")
    async with await mistral.fim.stream_async(model="codestral-latest", prompt="def f(") as stream:
        assert [each.data.choices[0].finish_reason async for each in stream if each.data.choices][-1] == "stop"
    assert {record.route for record in through.lane.records} == {"passthrough"}
    assert {call.path for call in through.stub.calls} == {"/v1/models", "/v1/embeddings", "/v1/fim/completions"}


async def test_mistral_sync_client_in_threads(through: Through) -> None:
    def ask(user: str) -> str:
        with Mistral(server_url=through.lane.url, api_key="key") as made:
            headers = {"x-agent": "qa_agent", "x-user-id": user}
            with made.chat.stream(model="m", messages=HELLO, http_headers=headers) as stream:
                return "".join(str(each.data.choices[0].delta.content) for each in stream if each.data.choices)

    answers = await asyncio.gather(*(asyncio.to_thread(ask, user) for user, _ in SERVED))
    for (_, model), said in zip(SERVED, answers, strict=True):
        assert said.startswith(f"Answer from {model}: ")


# --- langchain-openai -----------------------------------------------------------------------------


@pytest.fixture
async def chain(through: Through) -> ChatOpenAI:
    return ChatOpenAI(
        model="qa_agent", base_url=f"{through.lane.url}/v1", api_key=SecretStr("k"), max_retries=0, timeout=5,
        model_kwargs={"user": FINETUNED_USER},
    )  # fmt: skip


async def test_langchain_chat_and_stream(chain: ChatOpenAI) -> None:
    answer = await chain.ainvoke("hello there")
    assert str(answer.content).startswith(f"Answer from {FINETUNED}: ")
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 12
    assert "".join([str(each.content) async for each in chain.astream("hello there")]) == answer.content
    said = await asyncio.to_thread(chain.invoke, "hello there")
    assert said.content == answer.content


@pytest.mark.parametrize("usage", [False, True])
async def test_langchain_stream_tells_usage_to_who_asks(through: Through, chain: ChatOpenAI, usage: bool) -> None:
    chunks = [each async for each in chain.astream("hello there", stream_usage=usage)]
    counts = [each.usage_metadata["output_tokens"] for each in chunks if getattr(each, "usage_metadata", None)]
    assert sum(counts) == (12 if usage or through.dialect is Dialect.MISTRAL else 0)


async def test_langchain_tools_and_structured_output(chain: ChatOpenAI) -> None:
    bound = chain.bind_tools(TOOLS)
    called = await bound.ainvoke("please call a tool")
    assert isinstance(called, AIMessage)
    assert [(each["name"], each["args"]) for each in called.tool_calls] == [("weather", {"city": "stub"})]
    told = ToolMessage("sun", tool_call_id=called.tool_calls[0]["id"])
    again = await bound.ainvoke([HumanMessage("please call a tool"), called, told])
    assert str(again.content).startswith("Answer from ")
    assert await chain.with_structured_output(City, method="json_schema").ainvoke("hello") == City(city="stub")
    assert await chain.with_structured_output(City, method="function_calling").ainvoke("hello") == City(city="stub")


async def test_langchain_embeddings(through: Through) -> None:
    made = OpenAIEmbeddings(
        model="e", base_url=f"{through.lane.url}/v1", api_key=SecretStr("k"), check_embedding_ctx_length=False
    )
    assert [len(each) for each in await made.aembed_documents(["one two", "three"])] == [8, 8]

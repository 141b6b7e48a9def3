"""ACCEPTANCE 9: the openai SDK works through the proxy as it does without it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.words import Assignment, Dialect
from tests.support.lane import FINETUNED, FINETUNED_USER
from tests.support.sdks import CALL, HELLO, SERVED, TOOLS, WORDS, City, Through, in_threads, proxied


@pytest.fixture(params=list(Dialect))
async def through(request: pytest.FixtureRequest) -> AsyncIterator[Through]:
    async with proxied(request.param) as made:
        yield made


@pytest.fixture
async def client(through: Through) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{through.lane.url}/v1", api_key="sk-client", max_retries=0, timeout=5,
        default_headers={"x-agent": "qa_agent"},
    ) as made:  # fmt: skip
        yield made


@pytest.mark.parametrize(("user", "model"), SERVED)
async def test_openai_chat_is_split_by_user(
    through: Through, client: openai.AsyncOpenAI, user: str, model: str
) -> None:
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
    assert told == ([WORDS] if usage or through.dialect is Dialect.MISTRAL else [])
    assert (len(chunks) > len(finished)) == (usage and through.dialect is Dialect.OPENAI)
    if through.dialect is Dialect.OPENAI:
        for each in chunks:
            ChatCompletionChunk.model_validate(each.model_dump(), strict=True)
    record = await through.lane.record()
    assert (record.stream, record.failure) == (True, None)
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated) == (WORDS, False)


async def test_openai_stream_helper_accumulates(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="m", messages=HELLO, user=FINETUNED_USER) as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "content.delta" in events
    assert (final.choices[0].message.content or "").startswith(f"Answer from {FINETUNED}: ")


async def test_openai_stream_that_is_left_early_ends_the_upstreams(
    through: Through, client: openai.AsyncOpenAI
) -> None:
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
    told = [
        *CALL,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sun"},
    ]
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


async def test_upstreams_errors_are_the_sdks_own(through: Through, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(
            model="m", messages=HELLO, extra_headers={"x-stub-fault": "context_length"}
        )
    assert "context" in raised.value.message
    with pytest.raises(openai.InternalServerError, match="The server had an error"):
        await drained(client, "status=500")
    if through.dialect is Dialect.OPENAI:  # it does not take Mistral's error event for one, proxy or not
        with pytest.raises(openai.APIError, match="The server had an error"):
            await drained(client, "error=2")


async def drained(client: openai.AsyncOpenAI, spec: str) -> int:
    """Read a stream with a fault to its end; return how many chunks it had."""
    headers = {"x-stub-fault": spec}
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True, extra_headers=headers)
    return len([each async for each in stream])


async def test_openai_sync_client_in_threads(through: Through) -> None:
    def ask(user: str) -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{through.lane.url}/agents/qa_agent/v1", api_key="k", max_retries=0) as made:
            answer = made.chat.completions.create(model="m", messages=HELLO, user=user)
            stream = made.chat.completions.create(model="m", messages=HELLO, user=user, stream=True)
            return answer.choices[0].message.content or "", "".join(
                each.choices[0].delta.content or "" for each in stream
            )

    for (_, model), (whole, streamed) in zip(
        SERVED * 2, await in_threads(ask, [user for user, _ in SERVED * 2]), strict=True
    ):
        assert whole == streamed
        assert whole.startswith(f"Answer from {model}: ")

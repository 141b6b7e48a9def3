"""ACCEPTANCE 9: the mistralai SDK works through the proxy as it does without it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mistralai.client import Mistral

from proxy.words import Dialect
from tests.support.lane import BASELINE
from tests.support.sdks import CALL, HELLO, SERVED, TOOLS, WORDS, Through, in_threads, proxied


@pytest.fixture(params=list(Dialect))
async def through(request: pytest.FixtureRequest) -> AsyncIterator[Through]:
    async with proxied(request.param) as made:
        yield made


@pytest.fixture
async def mistral(through: Through) -> AsyncIterator[Mistral]:
    async with Mistral(server_url=f"{through.lane.url}/agents/qa_agent", api_key="key", timeout_ms=5000) as made:
        yield made


@pytest.mark.parametrize(("user", "model"), SERVED)
async def test_mistral_chat_and_stream_are_split_by_user(mistral: Mistral, user: str, model: str) -> None:
    mine: dict[str, Any] = {
        "model": "open-mistral-7b",
        "messages": HELLO,
        "random_seed": 7,
        "safe_prompt": False,
        "metadata": {"user_id": user},
    }
    answer = await mistral.chat.complete_async(**mine)
    assert answer.choices[0].message is not None
    content = str(answer.choices[0].message.content)
    assert content.startswith(f"Answer from {model}: ")
    assert answer.usage.completion_tokens == WORDS
    async with await mistral.chat.stream_async(**mine) as stream:
        chunks = [each.data async for each in stream]
    assert (
        "".join(str(each.choices[0].delta.content) for each in chunks if each.choices and each.choices[0].delta.content)
        == content
    )
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "stop"


async def test_mistral_tools_and_json_mode(through: Through, mistral: Mistral) -> None:
    tools: Any = TOOLS
    answer = await mistral.chat.complete_async(model="m", messages=CALL, tools=tools)
    assert answer.choices[0].message is not None
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert (call.function.name, json.loads(str(call.function.arguments))) == ("weather", {"city": "stub"})
    if through.dialect is Dialect.MISTRAL:  # it cannot read OpenAI's fragments of a tool call, proxy or not
        async with await mistral.chat.stream_async(model="m", messages=CALL, tools=tools) as stream:
            finishes = [each.data.choices[0].finish_reason async for each in stream if each.data.choices]
        assert finishes[-1] == "tool_calls"
    said = await mistral.chat.complete_async(model="m", messages=HELLO, response_format={"type": "json_object"})
    assert said.choices[0].message is not None
    assert json.loads(str(said.choices[0].message.content))["model"] == BASELINE


@pytest.mark.parametrize("through", [Dialect.MISTRAL], indirect=True)
async def test_mistral_embeddings_and_fim(through: Through, mistral: Mistral) -> None:
    embedded = await mistral.embeddings.create_async(model="mistral-embed", inputs=["one two", "three"])
    assert [len(each.embedding or []) for each in embedded.data] == [8, 8]
    written = await mistral.fim.complete_async(model="codestral-latest", prompt="def f(", suffix="return x")
    assert written.choices[0].message is not None
    assert str(written.choices[0].message.content).startswith("Answer from codestral-latest:")
    async with await mistral.fim.stream_async(model="codestral-latest", prompt="def f(") as stream:
        assert [each.data.choices[0].finish_reason async for each in stream if each.data.choices][-1] == "stop"
    assert {record.route for record in through.lane.records} == {"passthrough"}
    assert {call.path for call in through.stub.calls} == {"/v1/embeddings", "/v1/fim/completions"}


@pytest.mark.parametrize("through", [Dialect.MISTRAL], indirect=True)
async def test_mistral_models(through: Through, mistral: Mistral) -> None:
    assert (await mistral.models.list_async()).data
    assert (await mistral.models.retrieve_async(model_id="ft:open-mistral-7b:x:y")).type == "fine-tuned"
    assert [call.path for call in through.stub.calls] == ["/v1/models", "/v1/models/ft:open-mistral-7b:x:y"]


async def test_mistral_sync_client_in_threads(through: Through) -> None:
    def ask(user: str) -> str:
        with Mistral(server_url=through.lane.url, api_key="key") as made:
            headers = {"x-agent": "qa_agent", "x-user-id": user}
            with made.chat.stream(model="m", messages=HELLO, http_headers=headers) as stream:
                return "".join(str(each.data.choices[0].delta.content) for each in stream if each.data.choices)

    for (_, model), said in zip(SERVED, await in_threads(ask, [user for user, _ in SERVED]), strict=True):
        assert said.startswith(f"Answer from {model}: ")

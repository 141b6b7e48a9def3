"""ACCEPTANCE 9: langchain-openai works through the proxy as it does without it."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from proxy.words import Dialect
from tests.support.lane import FINETUNED, FINETUNED_USER
from tests.support.sdks import TOOLS, WORDS, City, Through, in_threads, proxied


@pytest.fixture(params=list(Dialect))
async def through(request: pytest.FixtureRequest) -> AsyncIterator[Through]:
    async with proxied(request.param) as made:
        yield made


@pytest.fixture
async def settings(through: Through) -> AsyncIterator[dict[str, Any]]:
    """What langchain's models are made with; clients of our own, as it never closes those it makes."""
    async with openai.DefaultAsyncHttpxClient() as awaited:
        with openai.DefaultHttpxClient() as direct:
            yield {
                "base_url": f"{through.lane.url}/v1",
                "api_key": SecretStr("k"),
                "max_retries": 0,
                "timeout": 5,
                "http_async_client": awaited,
                "http_client": direct,
            }


@pytest.fixture
def chain(settings: dict[str, Any]) -> ChatOpenAI:
    return ChatOpenAI(model="qa_agent", model_kwargs={"user": FINETUNED_USER}, **settings)


async def test_langchain_chat_and_stream(chain: ChatOpenAI) -> None:
    answer = await chain.ainvoke("hello there")
    assert str(answer.content).startswith(f"Answer from {FINETUNED}: ")
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == WORDS
    assert "".join([str(each.content) async for each in chain.astream("hello there")]) == answer.content
    (said,) = await in_threads(chain.invoke, ["hello there"])
    assert said.content == answer.content


@pytest.mark.parametrize("usage", [False, True])
async def test_langchain_stream_tells_usage_to_who_asks(through: Through, chain: ChatOpenAI, usage: bool) -> None:
    chunks = [each async for each in chain.astream("hello there", stream_usage=usage)]
    counts = [
        each.usage_metadata["output_tokens"]
        for each in chunks
        if isinstance(each, AIMessage) and each.usage_metadata is not None
    ]
    assert sum(counts) == (WORDS if usage or through.dialect is Dialect.MISTRAL else 0)


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


async def test_langchain_embeddings(settings: dict[str, Any]) -> None:
    made = OpenAIEmbeddings(model="e", check_embedding_ctx_length=False, **settings)
    assert [len(each) for each in await made.aembed_documents(["one two", "three"])] == [8, 8]

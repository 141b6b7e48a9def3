"""A vendor's SDK, the proxy and the stub in a row, and what the SDKs are asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from proxy.stub import Stub, StubConfig
from proxy.words import Dialect
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, Lane, policy_of, running

T = TypeVar("T")

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
CALL: list[Any] = [{"role": "user", "content": "please call a tool"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
SERVED = [(FINETUNED_USER, FINETUNED), (BASELINE_USER, BASELINE)]
WORDS = 12  # the stub's answers, unless asked for more or less


class City(BaseModel):
    """What structured answers are parsed into."""

    city: str


class Through(NamedTuple):
    """The proxy and the stub behind it."""

    lane: Lane
    stub: Stub
    dialect: Dialect


@asynccontextmanager
async def proxied(dialect: Dialect) -> AsyncIterator[Through]:
    """Run both; the stub and the policy speak `dialect`."""
    async with (
        Stub(StubConfig(dialect=dialect)) as stub,
        running(policy_of(stub.url, upstreams={"up": {"dialect": dialect.value}})) as lane,
    ):
        yield Through(lane, stub, dialect)


async def in_threads(ask: Callable[[str], T], users: Sequence[str]) -> list[T]:
    """Call `ask` for every user at once, each in a thread.

    The threads are our own: the loop's are what the proxy looks names up in.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(users)) as threads:
        return await asyncio.gather(*(loop.run_in_executor(threads, ask, user) for user in users))

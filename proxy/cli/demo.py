"""Run a stub upstream, the proxy in front of it, and real traffic through the OpenAI SDK.

Five agents at 10 %, a fine-tune that fails and is rescued, and a stream.  Exits 0 when what a caller
saw is what Splitlane promises, 1 when it is not.

examples:
  splitlane demo
  splitlane demo --users 500
"""

import argparse
import asyncio
import importlib.util
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from proxy.listener.service import Service
from proxy.policy.load import default_policy_path
from proxy.policy.snapshot import Address, Policy
from proxy.policy.store import PolicyStore
from proxy.stub import Stub, StubConfig
from proxy.words import Dialect, Record

if TYPE_CHECKING:
    from openai import AsyncOpenAI

LOCAL = Address("127.0.0.1", 0)
# The agent whose fine-tune is made to fail, and how.
FAILING_AGENT = "legal_agent"
FAULT = "status=500"
QUESTION = "Where is my parcel? Answer in 12 words."
CONCURRENT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--users", type=int, default=200, help="users per agent, one request each (default: 200)")


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    if importlib.util.find_spec("openai") is None:
        print("splitlane demo: the OpenAI SDK is missing; pip install 'splitlane[demo]'", file=sys.stderr)
        return 1
    logging.getLogger("splitlane").setLevel(logging.ERROR)  # a rescue is the point here, no news
    return asyncio.run(_demo(max(1, args.users)))


@asynccontextmanager
async def _running(records: list[Record]) -> AsyncIterator[tuple[Stub, Service, Policy]]:
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub, Stub(StubConfig()) as openai:
        environment = {**os.environ, "SPLITLANE_STUB_URL": stub.url, "SPLITLANE_OPENAI_STUB_URL": openai.url}
        store = PolicyStore(default_policy_path({"GENESIS_ENV": "demo"}), environment)
        service = Service(store, LOCAL, LOCAL, (records.extend,))
        await service.start()
        try:
            yield stub, service, store.active.policy
        finally:
            service.hurry()
            await service.stop()


async def _demo(users: int) -> int:
    from openai import AsyncOpenAI  # noqa: PLC0415 takes a second to import, and only the demo needs it

    records: list[Record] = []
    problems: list[str] = []
    async with _running(records) as (stub, service, policy):
        agents = [agent.name for agent in policy.agents.values()]
        base_url = f"http://{service.data.host}:{service.data.port}/v1"
        print(f"stub upstream  {stub.url}\nproxy          {base_url}   (all that a client changes)\n")
        async with AsyncOpenAI(base_url=base_url, api_key="demo", max_retries=0) as client:
            print(f"1. {len(agents)} agents, {users} users each, one request per user, at 10 %")
            answered = await _ask_all(client, agents, users)
            await _settled(records, len(agents) * users)
            _print_split(records, agents, users)
            if answered != len(agents) * users:
                problems.append(f"{len(agents) * users - answered} requests of the first part failed")

            print(f"\n2. the fine-tune of {FAILING_AGENT} now answers 500 to everybody")
            stub.set_fault(policy.agents[FAILING_AGENT.encode()].finetuned.model, FAULT)
            seen = len(records)
            answered = await _ask_all(client, [FAILING_AGENT], users)
            await _settled(records, seen + users)
            rescued = Counter(str(record.fallback) for record in records[seen:] if record.fallback)
            reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(rescued.items()))
            print(f"   {answered} of {users} callers got their answer; rescued by the baseline: {reasons}")
            if answered != users or not rescued:
                problems.append("a failing fine-tune reached a caller, or was not rescued")
            stub.clear_faults()

            print("\n3. a stream")
            if not await _stream(client):
                problems.append("the stream did not complete")
            await _settled(records, seen + users + 1)
            usage = records[-1].usage
            print(
                f"   tokens counted on the way: {usage.prompt} in, {usage.completion} out" if usage else "   no usage"
            )
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    print("" if problems else "\nEverything a caller saw was an answer.")
    return 1 if problems else 0


async def _ask_all(client: "AsyncOpenAI", agents: list[str], users: int) -> int:
    """One request per agent and user; how many were answered."""
    from openai import OpenAIError  # noqa: PLC0415

    turn = asyncio.Semaphore(CONCURRENT)

    async def ask(agent: str, user: int) -> bool:
        async with turn:
            try:
                answer = await client.chat.completions.create(
                    model="gpt-4o",
                    messages=[{"role": "user", "content": QUESTION}],
                    extra_headers={"X-Agent": agent, "X-User-Id": f"user-{user}"},
                )
            except OpenAIError as error:
                print(f"   {agent}, user-{user}: {error}", file=sys.stderr)
                return False
            return bool(answer.choices[0].message.content)

    return sum(await asyncio.gather(*(ask(agent, user) for agent in agents for user in range(users))))


async def _stream(client: "AsyncOpenAI") -> bool:
    stream = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        extra_headers={"X-Agent": "qa_agent", "X-User-Id": "user-1"},
    )
    print("   ", end="")
    finished = False
    async for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
            finished = finished or choice.finish_reason is not None
    print()
    return finished


async def _settled(records: list[Record], count: int) -> None:
    """Wait for the records, which come in batches."""
    async with asyncio.timeout(5):
        while len(records) < count:
            await asyncio.sleep(0.01)


def _print_split(records: list[Record], agents: list[str], users: int) -> None:
    print(f"   {'agent':<16}{'users':>7}{'fine-tuned':>12}{'share':>8}{'answered by it':>16}{'median':>9}")
    for agent in agents:
        own = [record for record in records if record.agent == agent]
        treated = [record for record in own if record.decision.variant == "finetuned"]
        served = sum(record.served.startswith("ft:") for record in own)
        median = sorted(record.latency for record in own)[len(own) // 2] * 1000
        print(f"   {agent:<16}{users:>7}{len(treated):>12}{len(treated) / users:>8.1%}{served:>16}{median:>6.1f} ms")

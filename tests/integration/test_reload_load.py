"""ACCEPTANCE 27: a thousand reloads under load; each request wholly on one policy, nothing lost, nothing grows."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.exchange import call
from proxy.policy import store as store_module
from proxy.policy.load import policy_hash
from proxy.policy.store import PolicyStore
from proxy.stub import Stub, StubConfig
from proxy.telemetry import metrics
from tests.integration.asking import chat
from tests.support.lane import Lane, running
from tests.support.raw_client import RawClient

pytestmark = pytest.mark.alone  # it measures

CLIENTS = 8
RELOADS = 1000
WARM_UP = 300  # reloads until every bounded cache is full, with bounds lower than real ones
MAX_GROWTH = 6 << 20  # bytes; a policy that is never let go would be 20 kB each
KEPT = 256


def version(number: int, url: str) -> str:
    """A policy all of whose models end in its number; the upstream `changing` is another one each time."""
    return f"""\
upstreams:
  steady: {{base_url: "{url}", api_key: k}}
  changing: {{base_url: "{url}", api_key: key-{number}}}
default_upstream: steady
agents:
  qa_agent: {{fine_tuned: "ft-a-{number}", fallback: "base-a-{number}", salt: kept}}
  legal_agent:
    fine_tuned: {{upstream: changing, model: "ft-b-{number}"}}
    fallback: {{upstream: steady, model: "base-b-{number}"}}
ab_testing: {{rollout_percentage: 50}}
observability: {{log_level: error}}
"""


class Load:
    """Keep-alive clients that ask without a pause, and check every answer."""

    def __init__(self, lane: Lane, stub: Stub) -> None:
        self._lane = lane
        self._stub = stub
        self.numbers: dict[str, int] = {}  # by the policy's hash
        self.answered = 0
        self.rescued = 0
        self._over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        clients = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            self._over = True
            await asyncio.gather(*clients)

    async def _ask(self, client: int) -> None:
        agent = "qa_agent" if client % 2 else "legal_agent"
        async with RawClient(self._lane.host, self._lane.port) as connection:
            while not self._over:
                await connection.send(chat(agent=agent, user=f"user-{self.answered}"))
                answer = await connection.read_response()
                assert answer.status == 200, answer
                fields = {name: value.decode() for name, value in answer.headers}
                number = self.numbers[fields[b"x-splitlane-policy"]]
                assert fields[b"x-splitlane-served"].endswith(f"-{number}")
                self.rescued += b"x-splitlane-fallback" in fields
                self.answered += 1

    def check_records(self) -> int:
        """Every attempt of every record was of the record's policy; forgets what has been looked at."""
        records = self._lane.records
        for record in records:
            number = self.numbers[record.policy_hash]
            assert record.failure is None
            assert all(attempt.model.endswith(f"-{number}") for attempt in record.attempts)
        checked = len(records)
        records.clear()
        self._stub.calls.clear()
        return checked


class Footprint:
    """What the process holds."""

    def __init__(self, lane: Lane) -> None:
        exchange = lane.service.exchange
        self.tasks = len(asyncio.all_tasks())
        self.descriptors = len(list(Path("/proc/self/fd").iterdir()))
        self.pools = len(exchange.pools)
        self.breakers = len(exchange.attempts._breakers)
        self.series = len(lane.service.metrics._models)
        gc.collect()
        self.memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_thousand_reloads_under_load_lose_nothing_mix_nothing_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SETTLE", 0.0)
    monkeypatch.setattr(call, "_ADDED_KEPT", KEPT)
    monkeypatch.setattr(metrics, "GONE_KEPT", KEPT // 8)
    faults = {"ft-*": "status=500,probability=0.05"}  # some are rescued: the baseline is the same policy's too
    async with Stub(StubConfig(faults=faults, words=3)) as stub:
        path = tmp_path / "policy.yaml"
        path.write_text(version(0, stub.url))
        store = PolicyStore(path, {})
        async with running(store) as lane:
            load = Load(lane, stub)
            load.numbers[store.active.policy.hash] = 0
            checked = 0
            steady = lane.service.exchange.pools.of(store.active.policy.upstreams["steady"])
            async with load.running():
                for number in range(1, RELOADS + 1):
                    text = version(number, stub.url)
                    name = policy_hash(text.encode())
                    load.numbers[name] = number  # before it is there: the store looks by itself too
                    path.write_text(text)
                    await store.reload()
                    assert store.active.policy.hash == name
                    if number % 50 == 0:
                        checked += load.check_records()
                    if number == WARM_UP:
                        before = Footprint(lane)
                after = Footprint(lane)
            await lane.idle()
            checked += load.check_records()
            assert store.reloads == RELOADS
            assert load.answered > RELOADS
            assert load.rescued > 0
            assert checked >= load.answered
            exchange = lane.service.exchange
            assert exchange.pools.of(store.active.policy.upstreams["steady"]) is steady
            assert steady.open <= CLIENTS
            assert len(exchange.pools) <= 2
            assert after.pools <= 2 + CLIENTS
            assert after.breakers <= 2 + CLIENTS
            assert after.series <= KEPT // 8 + 16
            assert after.tasks <= before.tasks + CLIENTS  # calls under way: the stub has a task for each
            assert after.descriptors <= before.descriptors + 2 * CLIENTS
            assert after.memory <= before.memory + MAX_GROWTH
            assert len(call._added) <= KEPT


async def test_large_file_is_read_while_requests_are_served(tmp_path: Path) -> None:
    """Three thousand agents take a second to check; nobody waits for that."""
    async with Stub(StubConfig(words=3)) as stub:
        path = tmp_path / "policy.yaml"
        path.write_text(version(0, stub.url))
        store = PolicyStore(path, {})
        async with running(store) as lane, RawClient(lane.host, lane.port) as client:
            many = "".join(f"  a{number}: {{fine_tuned: f, fallback: b}}\n" for number in range(3000))
            path.write_text(version(1, stub.url).replace("agents:\n", f"agents:\n{many}"))
            reloading = asyncio.create_task(store.reload())
            slowest = answered = 0.0
            while not reloading.done():
                started = asyncio.get_running_loop().time()
                await client.send(chat(agent="qa_agent"))
                assert (await client.read_response()).status == 200
                slowest = max(slowest, asyncio.get_running_loop().time() - started)
                answered += 1
            await reloading  # unless the store has looked by itself already
            assert b"a2999" in store.active.policy.agents
            assert answered > 5
            assert slowest < 0.5

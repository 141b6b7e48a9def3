"""What a webhook is told of, and that nobody waits for it.  ACCEPTANCE 39."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from proxy.telemetry import slack
from tests.integration.streaming import metric
from tests.support.budgets import DOLLAR, PRICES
from tests.support.collector import Collector, collector, liar
from tests.support.lane import TOKEN, Lane, eventually, running
from tests.support.raw_client import RawClient, request
from tests.support.rescue import ask
from tests.support.served import serving, write_policy

# Everything happens at once, and is told at once.
EAGER = {
    "ab_testing": {"rollout_percentage": 100},
    "rollout": {"brake": {"odds": 2}},
    "budgets": {"daily_usd": 1},
    "prices": PRICES,
}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "GAP", 0.02)
    monkeypatch.setattr(slack, "TIMEOUT", 30.0)


@pytest.fixture
def hook() -> Iterator[Collector]:
    with collector() as found:
        yield found


def texts(hook: Collector) -> list[str]:
    return [line for post in hook.posts for line in json.loads(post.body)["text"].split("\n")]


async def post(lane: Lane, path: str) -> int:
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("POST", path, b"", [("Authorization", f"Bearer {TOKEN}")]))
        return (await client.read_response()).status


async def test_brake_its_clearing_a_spent_budget_and_a_bad_policy_are_told(tmp_path: Path, hook: Collector) -> None:
    async with Stub() as stub:
        sections = {**EAGER, "alerting": {"slack_webhook": f"{hook.url}/hook"}}
        path = write_policy(tmp_path, stub.url, **sections)
        async with running(PolicyStore(path, {})) as lane:
            stub.set_fault("ft:*", "status=500")
            await ask(lane)
            await eventually(lambda: len(texts(hook)) == 1)
            assert await post(lane, "/rollout/clear?agent=qa_agent") == 200
            await eventually(lambda: len(texts(hook)) == 2)
            stub.clear_faults()
            for _ in range(3):
                await ask(lane, DOLLAR)
            await eventually(lambda: len(texts(hook)) == 3)
            path.write_text("agents: 7")
            assert await post(lane, "/policy/reload") == 400
            await eventually(lambda: len(texts(hook)) == 4)
            assert await metric(lane, "splitlane_notices_total", outcome="sent") == 4
    tripped, cleared, spent, rejected = texts(hook)
    assert tripped.startswith("Splitlane, test: brake of qa_agent tripped: the baseline serves everybody until")
    assert '"reasons":{"server_error":1}' in tripped
    assert "brake of qa_agent cleared by admin listener, 127.0.0.1" in cleared
    assert "budget of all, day: 1 US dollars are spent; until 20" in spent
    assert "kept: the new one has " in rejected
    assert str(tmp_path) not in rejected


async def test_alerting_that_is_switched_off_tells_nobody(tmp_path: Path, hook: Collector) -> None:
    async with Stub() as stub:
        alerting = {"enabled": False, "slack_webhook": hook.url}
        async with running(PolicyStore(write_policy(tmp_path, stub.url, **EAGER, alerting=alerting), {})) as lane:
            stub.set_fault("ft:*", "status=500")
            await ask(lane)
            await asyncio.sleep(0.05)
            assert await metric(lane, "splitlane_notices_total", outcome="sent") == 0
    assert hook.posts == []


def hang(_: socket.socket) -> None:
    """Say nothing."""


async def test_hanging_webhook_delays_neither_requests_nor_the_end(tmp_path: Path) -> None:
    with liar(hang) as url:
        async with Stub() as stub:
            path = write_policy(tmp_path, stub.url, **EAGER, alerting={"slack_webhook": f"{url}/T000-canary"})
            stub.set_fault("ft:*", "status=500")
            async with serving(path) as proxy:
                async with proxy.client() as client:
                    began = time.monotonic()
                    for number in range(5):
                        fields = [("X-Agent", "qa_agent"), ("X-User-Id", f"user-{number}")]
                        await client.send(request("POST", "/v1/chat/completions", DOLLAR, fields))
                        assert (await client.read_response()).status == 200
                    assert time.monotonic() - began < 3
                began = time.monotonic()
                proxy.terminate()
                assert await proxy.exit_code() == 0
                assert time.monotonic() - began < 3
            assert "brake of qa_agent" in "".join(proxy.log)
            assert "canary" not in "".join(proxy.log)

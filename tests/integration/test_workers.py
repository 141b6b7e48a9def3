"""`splitlane serve --workers 2`: one proxy, for who asks it and for who looks at it."""

import asyncio
import json
import os
import signal
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from proxy.stub import Stub, StubConfig
from tests.integration.asking import chat
from tests.support.budgets import DOLLAR, PRICES
from tests.support.crowd import counted, crowd, is_counter, once, runs, total, workers_of
from tests.support.lane import eventually
from tests.support.programs import program
from tests.support.served import Served, log_lines, serving, write_policy

pytestmark = pytest.mark.alone  # a handful of processes under load

TWO = ("--workers", "2")
TOKEN = {"SPLITLANE_ADMIN_TOKEN": "admin-token"}


async def said(proxy: Served, words: str, within: float = 60.0) -> None:
    """Wait until the log has these words."""
    await eventually(lambda: any(words in line for line in proxy.log), within)


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_workers_split_alike_are_counted_as_one_follow_one_policy_and_end_at_a_second_signal(
    tmp_path: Path,
) -> None:
    promtool = program("promtool", "prometheus")
    users = [f"user-{number}" for number in range(40)]
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url)
        async with serving(path, TOKEN, options=TWO) as proxy:
            workers = workers_of(proxy)
            before = [descriptors(pid) for pid in workers]
            clients = [proxy.client() for _ in users]
            variants: dict[str, set[bytes]] = {user: set() for user in users}
            for client in clients:
                await client.__aenter__()
            for client, *pair in zip(clients, users, reversed(users), strict=True):
                for user in pair:
                    await client.send(chat(user=user))
                    answer = await client.read_response()
                    variants[user].add(answer.head.get(b"x-splitlane-variant") or b"")
            after = [descriptors(pid) for pid in workers]
            for client in clients:
                await client.close()
            assert all(now > then + 3 for now, then in zip(after, before, strict=True)), "both serve"
            for user, seen in variants.items():
                told = json.loads((await proxy.ask_admin(f"/assign?agent=qa_agent&user={user}")).body)
                assert seen == {told["variant"].encode()}

            scrape = (await proxy.ask_admin("/metrics")).body
            samples = await counted(proxy)
            assert total(samples, "model_requests_total") == 80
            assert total(samples, "model_latency_seconds_count") == 80
            assert samples["splitlane_overhead_seconds_count"] == 80
            assert samples['splitlane_rollout_percentage{agent="qa_agent"}'] == 25
            assert samples["splitlane_workers"] == 2
            checked = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, check=False)
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
            health = json.loads((await proxy.ask_admin("/health/qa_agent")).body)
            assert health["finetuned"]["requests"] + health["baseline"]["requests"] == 80

            path.write_text(path.read_text().replace("rollout_percentage: 25", "rollout_percentage: 100"))
            answer = await proxy.ask_admin("/policy/reload", "POST", "admin-token")
            assert answer.status == 200

            async def all_follow() -> bool:
                answers = [await once(proxy, chat(user="user-1")) for _ in range(12)]
                return {answer.head.get(b"x-splitlane-variant") for answer in answers} == {b"finetuned"}

            async with asyncio.timeout(5):
                while not await all_follow():
                    await asyncio.sleep(0.02)

            async with proxy.client() as client:
                calls = len(stub.calls)
                await client.send(chat(headers=[("x-stub-fault", "silence")]))
                await eventually(lambda: len(stub.calls) > calls)
                proxy.terminate()
                await said(proxy, "draining: 2 workers")
                proxy.terminate()
                assert (await client.read_response()).status == 503
                assert await proxy.exit_code(15) == 0


async def test_restart_and_death_and_drain_of_workers_under_load(tmp_path: Path) -> None:
    """A rolling restart fails no request; what a killed worker had in flight is all that is lost with it."""
    async with Stub(StubConfig(words=3)) as stub, serving(write_policy(tmp_path, stub.url), options=TWO) as proxy:
        first = workers_of(proxy)
        async with crowd(proxy) as seen:
            await asyncio.sleep(0.2)
            scrapes = [await counted(proxy)]
            proxy.terminate(signal.SIGUSR2)
            while not any("restarted 2 workers" in line for line in proxy.log):
                scrapes.append(await counted(proxy))
                assert (await proxy.ask_admin("/readyz")).status == 200
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)
        assert seen.failed == []
        assert seen.refused == 0
        scrapes.append(await counted(proxy))
        assert total(scrapes[-1], "model_requests_total") == seen.answered
        assert scrapes[-1]['splitlane_worker_restarts_total{reason="asked"}'] == 2
        second = workers_of(proxy)
        assert not {*first} & {*second}
        assert not any(map(runs, first))

        async with crowd(proxy) as seen:
            await asyncio.sleep(0.2)
            scrapes.append(await counted(proxy))
            os.kill(second[0], signal.SIGKILL)
            await said(proxy, "another one is started")
            await eventually(lambda: len(workers_of(proxy)) == 2, 10)
            async with asyncio.timeout(60):
                while (found := await counted(proxy))["splitlane_workers"] != 2:
                    scrapes.append(found)
                    await asyncio.sleep(0.05)
            scrapes.append(await counted(proxy))
            third = workers_of(proxy)
        assert len(seen.failed) <= 8, "one in flight for each client at most"
        assert seen.refused == 0
        assert scrapes[-1]['splitlane_worker_restarts_total{reason="died"}'] == 1
        for one, next_ in pairwise(scrapes):
            less = {name: (value, next_[name]) for name, value in one.items() if next_[name] < value}
            assert not {name for name in less if is_counter(name)}, less

        async with crowd(proxy) as seen:
            await asyncio.sleep(0.2)
            proxy.terminate()
            assert await proxy.exit_code() == 0
        assert not [each for each in seen.failed if each.startswith("RawResponse")], "no half of an answer"
        assert seen.answered
        assert not any(map(runs, third))
    assert not [line for line in log_lines(proxy.log) if "traceback" in line]


async def test_budget_holds_over_workers_which_end_with_their_parent(tmp_path: Path) -> None:
    """Each knows what the other has spent within seconds, and none outlives the parent by more than its drain."""
    async with Stub(StubConfig()) as stub:
        sections: dict[str, Any] = {
            "store": {"url": f"sqlite:///{tmp_path / 'lane.db'}"},
            "budgets": {"daily_usd": 4, "on_exceeded": "reject"},
            "prices": PRICES,
            "ab_testing": {"enabled": False},
        }
        async with serving(write_policy(tmp_path, stub.url, **sections), options=TWO) as proxy:
            workers = workers_of(proxy)
            spent = refused = 0
            async with asyncio.timeout(30):
                while refused < 12:  # in a row, each of either worker's
                    answer = await once(proxy, chat(DOLLAR))
                    refused = refused + 1 if answer.status == 402 else 0
                    spent += answer.status == 200
                    await asyncio.sleep(0.05)
            assert 4 <= spent <= 8, "each worker's limit at most, where neither knew of the other"
            async with asyncio.timeout(30):
                name = 'splitlane_budget_spent_usd{scope="all",window="day"}'
                while (await counted(proxy))[name] != pytest.approx(spent):
                    await asyncio.sleep(0.05)
            proxy.terminate(signal.SIGKILL)
            await eventually(lambda: not any(map(runs, workers)), 15)

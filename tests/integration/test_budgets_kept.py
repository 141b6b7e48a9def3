"""Budgets outlive the process where there is a store, and are shared where several use one.  ACCEPTANCE 41."""

import asyncio
import json
from pathlib import Path

import pytest

from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat
from tests.support.budgets import DOLLAR, PRICES, budgeted, spent_in, status_of
from tests.support.lane import eventually, running
from tests.support.served import serving, write_policy

pytestmark = pytest.mark.alone  # the writer runs when nobody else wants to

KEY = "0123456789abcdef" * 4
BUDGET = {"daily_usd": 3, "on_exceeded": "reject"}


async def test_what_was_spent_is_still_spent_after_a_restart(store_url: str, tmp_path: Path) -> None:
    async with Stub(StubConfig()) as stub:
        store = {"url": store_url, "unit_key": KEY}
        path = write_policy(tmp_path, stub.url, store=store, budgets=BUDGET, prices=PRICES)
        statuses = []
        for _ in range(2):
            async with serving(path) as proxy:
                async with proxy.client() as client:
                    for _ in range(4):
                        await client.send(chat(DOLLAR))
                        statuses.append((await client.read_response()).status)
                shown = json.loads((await proxy.ask_admin("/policy")).body)["budgets"]
                proxy.terminate()
                assert await proxy.exit_code() == 0
    assert statuses == [200, 200, 200, 402, 402, 402, 402, 402]
    assert shown["kept_in"] == store_url.partition(":")[0]
    assert shown["limits"][0]["spent_usd"] == pytest.approx(3.0)


async def test_proxies_that_share_a_store_share_the_budget(store_url: str) -> None:
    async with Stub(StubConfig()) as stub:
        policy = budgeted(stub.url, BUDGET, store={"url": store_url, "unit_key": KEY})
        async with running(policy) as one, running(policy) as other:
            assert [(await ask(one, chat(DOLLAR))).status for _ in range(2)] == [200, 200]
            assert await spent_in(one) == pytest.approx(2.0)
            await eventually(lambda: status_of(other).spent == pytest.approx(2.0))
            assert (await ask(other, chat(DOLLAR))).status == 200
            assert (await ask(other, chat(DOLLAR))).status == 402
            await eventually(lambda: status_of(one).spent == pytest.approx(3.0))
            assert (await ask(one, chat(DOLLAR))).status == 402
            await asyncio.sleep(1.2)
            assert status_of(one).spent == pytest.approx(3.0), "nobody counts his own money twice"

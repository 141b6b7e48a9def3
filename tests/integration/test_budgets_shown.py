"""What an operator sees of budgets, in /metrics and /policy, and what a reload makes of them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from tests.integration.asking import ask, chat
from tests.integration.streaming import metric
from tests.support.budgets import DOLLAR, PRICES, budgeted, spent_in, status_of
from tests.support.lane import BASELINE, FINETUNED, Lane, running
from tests.support.raw_client import RawClient, request
from tests.support.rescue import ours
from tests.support.served import write_policy


async def shown(lane: Lane) -> dict[str, Any]:
    """`budgets` of /policy."""
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", "/policy"))
        budgets = json.loads((await client.read_response()).body)["budgets"]
        assert isinstance(budgets, dict)
        return budgets


async def test_metrics_tell_limit_spending_and_what_was_moved() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1})) as lane:
        for _ in range(3):
            await ask(lane, chat(DOLLAR))
        await spent_in(lane)
        of = {"scope": "all", "window": "day"}
        assert await metric(lane, "splitlane_budget_limit_usd", **of) == 1
        assert await metric(lane, "splitlane_budget_spent_usd", **of) == pytest.approx(1.2)
        assert await metric(lane, "splitlane_budget_reserved_usd", **of) == 0
        assert await metric(lane, "splitlane_budget_exceeded_total", action="baseline", **of) == 2
        assert await metric(lane, "model_fallbacks_total", agent="qa_agent", reason="budget") == 2
        assert await metric(lane, "model_requests_total", outcome="success") == 3


async def test_rejections_are_outcomes_of_their_own() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 1, "on_exceeded": "reject"})) as lane:
        for _ in range(3):
            await ask(lane, chat(DOLLAR))
        assert await metric(lane, "model_requests_total", outcome="budget") == 2
        assert await metric(lane, "model_errors_total", reason="budget") == 2
        assert await metric(lane, "splitlane_budget_exceeded_total", action="reject") == 2


async def test_policy_shows_every_limit_and_when_it_resets() -> None:
    own = {"qa_agent": {"budgets": {"daily_usd": 5, "on_exceeded": "warn"}}}
    async with Stub() as stub, running(budgeted(stub.url, {"hourly_usd": 20, "daily_usd": 200}, agents=own)) as lane:
        await ask(lane, chat(DOLLAR))
        await lane.idle()
        budgets = await shown(lane)
    assert budgets["kept_in"] == "process"
    keys = ["scope", "window", "limit_usd", "on_exceeded"]
    assert [[limit[key] for key in keys] for limit in budgets["limits"]] == [
        ["all", "hour", 20, "baseline"],
        ["all", "day", 200, "baseline"],
        ["qa_agent", "day", 5, "warn"],
    ]
    assert [(limit["spent_usd"], limit["reserved_usd"]) for limit in budgets["limits"][1:]] == [(1, 0), (1, 0)]
    for limit in budgets["limits"]:
        edge = datetime.fromisoformat(limit["resets_at"])
        assert (edge.minute, edge.second, edge.microsecond) == (0, 0, 0)
        assert edge.hour == 0 or limit["window"] == "hour"


async def test_policy_without_budgets_shows_none() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {})) as lane:
        assert await shown(lane) == {"kept_in": "process", "limits": []}


async def test_what_other_processes_spent_is_shown_and_counts() -> None:
    async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 2})) as lane:
        budgets = lane.service.exchange.budgets
        now = datetime.now().timestamp()  # noqa: DTZ005 the clock of the lane
        budgets.kept_in = "postgresql"
        budgets.others({(int(now // 3600), "qa_agent"): 2.0})
        assert ours(await ask(lane, chat(DOLLAR)))["fallback"] == "budget"
        await lane.idle()
        told = await shown(lane)
    assert told["kept_in"] == "postgresql"
    assert told["limits"][0]["spent_usd"] == pytest.approx(2.1)


async def test_reload_changes_the_limit_and_not_what_was_spent(tmp_path: Path) -> None:
    async with Stub() as stub:
        limits = {"daily_usd": 1, "on_exceeded": "reject"}
        path = write_policy(tmp_path, stub.url, prices=PRICES, budgets=limits)
        async with running(PolicyStore(path, {})) as lane:
            assert [(await ask(lane, chat(DOLLAR))).status for _ in range(2)] == [200, 402]
            write_policy(tmp_path, stub.url, prices=PRICES, budgets={**limits, "daily_usd": 2})
            await lane.service.store.reload()
            assert status_of(lane).limit == 2
            assert status_of(lane).spent == pytest.approx(1)
            assert [(await ask(lane, chat(DOLLAR))).status for _ in range(2)] == [200, 402]
            write_policy(tmp_path, stub.url, prices=PRICES, budgets={**limits, "on_exceeded": "baseline"})
            await lane.service.store.reload()
            assert ours(await ask(lane, chat(DOLLAR)))["served"] == BASELINE
            write_policy(tmp_path, stub.url, prices=PRICES)
            await lane.service.store.reload()
            assert ours(await ask(lane, chat(DOLLAR)))["served"] == FINETUNED

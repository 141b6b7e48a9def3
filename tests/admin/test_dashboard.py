"""The dashboard's routes: what the page may do, and who gets events of what."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.admin import dashboard, reporter, watchers
from proxy.admin.dashboard_state import DashboardState
from proxy.admin.health import SLICE, in_slices
from proxy.policy.snapshot import Policy
from proxy.stub import Stub
from tests.integration.asking import ask, chat
from tests.support.lane import FINETUNED_USER, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request

NOBODY = "http://127.0.0.1:1"
EVENTS = [("Accept", "text/event-stream")]
REPORT: dict[str, Any] = {
    "generated_at": "2026-11-26T00:00:00Z",
    "agents": [
        {
            "agent": "qa_agent",
            "verdict": {"action": "hold"},
            "groups": [
                {"assignment": "finetuned", "compared": True, "users": 7},
                {"assignment": "shadow", "compared": False, "users": 9},
            ],
        }
    ],
}


async def get(lane: Lane, path: str, fields: list[tuple[str, str]] | None = None) -> RawResponse:
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", path, b"", fields or []))
        return await client.read_response()


def code_of(answer: RawResponse) -> str:
    return str(json.loads(answer.body)["error"]["code"])


class Watcher:
    """Reads a stream of events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self, start: str) -> str:
        async with asyncio.timeout(10):
            while not (line := (await self.reader.readline()).decode()).startswith(start):
                assert line, "the stream has ended"
        return line.removeprefix(start).strip()

    async def next(self, kind: str) -> Any:
        """The next event of a kind."""
        while await self.line("event: ") != kind:
            pass
        return json.loads(await self.line("data: "))


@asynccontextmanager
async def watching(lane: Lane) -> AsyncIterator[Watcher]:
    admin = lane.service.admin
    reader, writer = await asyncio.open_connection(admin.host, admin.port, limit=1 << 20)
    writer.write(request("GET", "/dashboard/events", b"", EVENTS))
    try:
        yield Watcher(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Looks every hundredth of a second, which are counted."""
    looks: list[float] = []
    live = DashboardState.live

    async def counted(state: DashboardState) -> dict[str, Any]:
        looks.append(asyncio.get_running_loop().time())
        return await live(state)

    monkeypatch.setattr(watchers, "EVERY", 0.01)
    monkeypatch.setattr(DashboardState, "live", counted)
    return looks


def stored(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Policy:
    """A policy with a store, whose reports are what `body` prints."""
    monkeypatch.setattr(reporter, "PROGRAM", "import sys; path, argv = {path!r}, {argv!r}; " + body)
    return policy_of(NOBODY, store={"url": f"sqlite:///{folder}/s.db"})


# --- the page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", *(f"/dashboard/{path.name}" for path in sorted(dashboard.PAGE.iterdir()))])
async def test_page_and_what_it_loads_are_for_this_site_alone(path: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        answer = await get(lane, path)
    assert answer.status == 200
    head = {name: (answer.head.get(name.encode()) or b"").decode() for name in (
        "content-security-policy", "x-content-type-options", "referrer-policy", "x-frame-options", "cache-control",
    )}  # fmt: skip
    policy = dict(part.split(" ", 1) for part in head.pop("content-security-policy").split("; "))
    assert head == {
        "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY",
        "cache-control": "no-store",
    }  # fmt: skip
    assert (policy["default-src"], policy["frame-ancestors"], policy["form-action"]) == ("'none'",) * 3
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img")} == {"'self'"}
    text = answer.body.decode()
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), "nothing is fetched from elsewhere"
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    if path == "/":
        assert not re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", text), "nothing is inline"


async def test_many_agents_are_looked_at_between_requests() -> None:
    agent = {"fine_tuned": "ft:m", "fallback": "m"}
    agents = policy_of(NOBODY, agents={f"agent_{number}": agent for number in range(4 * SLICE)}).agents
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert [each async for each in in_slices(agents.values())] == list(agents.values())
    task.cancel()
    assert turns >= 4


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fdashboard.py", "%2e%2e%2fdashboard.py"])
async def test_no_other_file_is_shown(name: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        assert (await get(lane, f"/dashboard/{name}")).status == 404


def test_page_is_small_enough_to_be_read() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in dashboard.PAGE.glob("*.js")}
    assert max(lines.values()) <= 400, lines


# --- events -------------------------------------------------------------------------------------------


async def test_watcher_sees_requests_as_they_are_served(quick: list[float]) -> None:
    async with Stub() as stub:
        limits = {"budgets": {"daily_usd": 5}}
        policy = policy_of(stub.url, **limits, agents={"qa_agent": {"budgets": {"hourly_usd": 2}}})
        async with running(policy) as lane, watching(lane) as watcher:
            before = await watcher.next("live")
            stub.set_fault("ft:*", "status=500,count=1")
            await ask(lane, chat(user=FINETUNED_USER))
            await eventually(lambda: lane.service.exchange.in_flight == 0)
            after = await watcher.next("live")
            while not after["agents"][0]["fallbacks"]:
                after = await watcher.next("live")
    assert before["steps"][0] == {"percent": 10.0, "approval": False}
    assert (before["stored"], before["may_act"], before["readiness"], before["switched_off"]) == (
        False,
        True,
        "ready",
        "",
    )
    assert [budget["scope"] for budget in before["budgets"]] == ["all"]
    (agent,) = before["agents"]
    assert (agent["status"], agent["percentage"], agent["breaker"], agent["brake"]) == ("OK", 25, "closed", None)
    assert [budget["window"] for budget in agent["budgets"]] == ["hour"]
    assert agent["since_start"]["finetuned"]["success"] is None
    (agent,) = after["agents"]
    assert agent["fallbacks"] == {"server_error": 1}
    seen = agent["since_start"]["finetuned"]
    assert (seen["requests"], seen["ok"], seen["success"]) == (1, 1, 1.0)
    assert 0 < seen["latency_seconds"]["p50"] <= seen["latency_seconds"]["p95"]


async def test_nothing_is_computed_while_nobody_looks_and_once_for_all_who_do(quick: list[float]) -> None:
    async with running(policy_of(NOBODY)) as lane:
        await get(lane, "/")
        await asyncio.sleep(0.05)
        assert not quick
        async with watching(lane) as one, watching(lane) as other:
            first = [(await watcher.next("live"))["now"] for watcher in (one, other)]
            while first[0] != first[1]:
                slow = first.index(min(first))
                first[slow] = (await (one, other)[slow].next("live"))["now"]
        seen_here = lane.service.admin_listener._dashboard
        assert seen_here is not None
        await eventually(lambda: not seen_here._watchers.present)
        seen = len(quick)
        await asyncio.sleep(0.05)
        assert len(quick) == seen


async def test_watchers_are_bounded_and_who_leaves_makes_room(
    quick: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "MOST_WATCHERS", 2)
    async with running(policy_of(NOBODY)) as lane:
        seen = lane.service.admin_listener._dashboard
        assert seen is not None
        async with watching(lane) as one:
            await one.next("live")
            async with watching(lane) as two:
                await two.next("live")
                refused = await get(lane, "/dashboard/events", EVENTS)
                assert (refused.status, code_of(refused)) == (503, "too_many_watchers")
            await eventually(lambda: seen._watchers.present == 1)
            async with watching(lane) as three:
                await three.next("live")


async def test_watcher_that_stops_reading_is_dropped(quick: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "STALLED", 0.05)
    async with running(policy_of(NOBODY)) as lane:
        seen = lane.service.admin_listener._dashboard
        assert seen is not None
        async with watching(lane) as watcher:
            await watcher.next("live")
            seen._watchers.publish(b"large", b"x" * (16 << 20))
            await eventually(lambda: not seen._watchers.present)


async def test_end_of_the_process_waits_for_no_watcher(quick: list[float]) -> None:
    async with running(policy_of(NOBODY)) as lane, watching(lane) as watcher:
        await watcher.next("live")
        lane.service.hurry()
        async with asyncio.timeout(2):
            await lane.service.stop()
            await watcher.reader.read()


async def test_who_wants_no_events_gets_none() -> None:
    async with running(policy_of(NOBODY)) as lane:
        answer = await get(lane, "/dashboard/events")
        assert (answer.status, code_of(answer)) == (406, "events_only")


# --- verdicts -----------------------------------------------------------------------------------------


async def test_without_a_store_the_page_is_told_so(quick: list[float]) -> None:
    async with running(policy_of(NOBODY)) as lane, watching(lane) as watcher:
        assert await watcher.next("verdicts") == {"problem": "no_store"}


async def test_report_is_asked_for_once_and_shown_to_who_comes_later(
    tmp_path: Path, quick: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = stored(tmp_path, monkeypatch, f"print({json.dumps(REPORT)!r})".replace("{", "{{").replace("}", "}}"))
    async with running(policy) as lane:
        async with watching(lane) as watcher:
            told = await watcher.next("verdicts")
            assert told["agents"]["qa_agent"]["verdict"] == {"action": "hold"}
            assert list(told["agents"]["qa_agent"]["arms"]) == ["finetuned"], "a shadow is compared with nothing"
            for _ in range(5):
                await watcher.next("live")
        async with watching(lane) as watcher:
            assert await watcher.next("verdicts") == told
        assert lane.service._reporter._counts["done"] == 1


async def test_report_that_fails_is_told(tmp_path: Path, quick: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = stored(tmp_path, monkeypatch, "sys.exit('no such table')")
    async with running(policy) as lane, watching(lane) as watcher:
        assert await watcher.next("verdicts") == {"problem": "no such table"}

"""Orders to a ramp over HTTP: who may give them, what they do, and what is said where nothing is done."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.admin import orders
from proxy.policy.store import PolicyStore
from tests.experiment.ramps import HOUR, fill, percentage_of, write_ramp
from tests.ledger.records import opened
from tests.support.lane import TOKEN, Lane, policy_of, running
from tests.support.raw_client import RawClient, request

NOBODY = "http://127.0.0.1:1"


async def post(
    lane: Lane, path: str, body: object = None, token: str = TOKEN, fields: tuple[tuple[str, str], ...] = ()
) -> tuple[int, dict[str, Any]]:
    data = b"" if body is None else json.dumps(body).encode()
    authorization = [("Authorization", f"Bearer {token}")] if token else []
    async with RawClient(lane.service.admin.host, lane.service.admin.port, timeout=40) as client:
        await client.send(request("POST", path, data, [*authorization, *fields]))
        answer = await client.read_response()
    return answer.status, json.loads(answer.body)


@asynccontextmanager
async def ramp(folder: Path, percentage: float = 50, *, begun: float = 3 * HOUR) -> AsyncIterator[tuple[Lane, Path]]:
    """A proxy with the ramp of `ramps.py`, and requests of its stage in the store."""
    path = write_ramp(folder, percentage=percentage)
    with opened(f"sqlite:///{folder}/s.db") as database:
        fill(database, percentage, begin=time.time() - begun)
    async with running(PolicyStore(path, {})) as lane:
        yield lane, path


def pretend(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """The command does `body` instead."""
    monkeypatch.setattr(orders, "PROGRAM", "import sys, time; path, argv = {path!r}, {argv!r}; " + body)


# --- who may ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["advance", "pause", "resume", "rollback", "clear"])
async def test_order_without_the_token_or_from_another_site_is_refused(order: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        path = f"/rollout/{order}?agent=qa_agent"
        for token in ("", "wrong"):
            status, told = await post(lane, path, token=token)
            assert (status, told["error"]["code"]) == (401, "wrong_admin_token")
        status, told = await post(lane, f"{path}&token={TOKEN}", token="")
        assert status == 401, "a token in a URL is none"
        status, told = await post(lane, path, fields=(("Sec-Fetch-Site", "cross-site"),))
        assert (status, told["error"]["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("advance", None, 400, "bad_request"),
        ("advance?agent=nobody", None, 404, "unknown_agent"),
        ("pause?agent=qa_agent", None, 400, "bad_request"),
        ("pause?agent=qa_agent", {"reason": "  "}, 400, "bad_request"),
        ("pause?agent=qa_agent", {"reason": "--store"}, 400, "bad_request"),
        ("pause?agent=qa_agent", {"reason": "two\nlines"}, 400, "bad_request"),
        ("pause?agent=qa_agent", {"reason": 5}, 400, "bad_request"),
        ("pause?agent=qa_agent", ["reason"], 400, "bad_request"),
        ("rollback?agent=qa_agent", {"reason": "x" * 5000}, 400, "bad_request"),
        ("advance?agent=qa_agent", None, 503, "no_store"),
    ],
)
async def test_order_that_makes_no_sense_starts_nothing(path: str, body: object, status: int, code: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        found, told = await post(lane, f"/rollout/{path}", body)
    assert (found, told["error"]["code"]) == (status, code)


# --- what is done -------------------------------------------------------------------------------------


async def test_advance_moves_the_ramp_at_once_and_is_recorded_as_the_listeners(tmp_path: Path) -> None:
    async with ramp(tmp_path) as (lane, path):
        status, told = await post(lane, "/rollout/advance?agent=qa_agent")
        assert status == 200
        assert [(step["from"], step["to"]) for step in told["agents"]] == [(50, 80)]
        assert percentage_of(path) == 80
        assert lane.service.exchange.policy.agents[b"qa_agent"].percentage == 80
    with opened(f"sqlite:///{tmp_path}/s.db") as database:
        ((actor, action),) = database.execute("SELECT actor, action FROM decisions")
    assert (actor, action) == ("admin listener, 127.0.0.1", "advance")


async def test_refused_advance_says_what_stands_against_it_and_changes_nothing(tmp_path: Path) -> None:
    async with ramp(tmp_path, begun=0.5 * HOUR) as (lane, path):
        status, told = await post(lane, "/rollout/advance?agent=qa_agent")
        assert (status, told["error"]["code"]) == (409, "refused")
        assert [each["reason"] for each in told["error"]["reasons"]] == ["SOAK"]
        assert told["error"]["message"].startswith("qa_agent stays at 50 %: SOAK")
        assert percentage_of(path) == 50


async def test_rolled_back_agent_stays_there_until_it_is_cleared(tmp_path: Path) -> None:
    async with ramp(tmp_path) as (lane, path):
        status, told = await post(lane, "/rollout/rollback?agent=qa_agent", {"reason": "wrong language"})
        assert (status, told["agents"][0]["to"], told["agents"][0]["reason"]) == (200, 0, "wrong language")
        assert percentage_of(path) == 0
        status, told = await post(lane, "/rollout/clear?agent=qa_agent")
        assert (status, told["cleared"], told["released"], told["problem"]) == (200, False, True, "")


async def test_without_a_store_a_rollback_is_done_and_says_that_it_is_not_held() -> None:
    async with running(policy_of(NOBODY)) as lane:
        status, told = await post(lane, "/rollout/rollback?agent=qa_agent")
        assert status == 200
        assert told["notes"][-1].endswith("neither recorded nor held at 0 %")
        assert lane.service.exchange.policy.agents[b"qa_agent"].percentage == 0
        assert [Path(file).suffix for file in told["files"]] == [".yaml"], "its name, and nothing that stands in it"


# --- what is not --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ("sys.stderr.write('splitlane rollout: p.yaml: cannot be written (Read-only file system)'); sys.exit(2)",
         503, "not_done", "p.yaml: cannot be written (Read-only file system)"),
        ("sys.stderr.write('splitlane rollout: ann@host is deciding right now'); sys.exit(4)",
         409, "busy", "ann@host is deciding right now"),
        ("sys.exit(7)", 503, "not_done", "its process ended with 7"),
        ("time.sleep(30)", 503, "not_done",
         "resume of qa_agent was not done within 0.3 seconds, and may be done in part"),
    ],
)  # fmt: skip
async def test_order_that_cannot_be_obeyed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, status: int, code: str, message: str
) -> None:
    pretend(monkeypatch, body)
    monkeypatch.setattr(orders, "WITHIN", 0.3 if "sleep" in body else 20.0)
    async with running(policy_of(NOBODY, store={"url": f"sqlite:///{tmp_path}/s.db"})) as lane:
        found, told = await post(lane, "/rollout/resume?agent=qa_agent")
        assert (found, told["error"]["code"], told["error"]["message"]) == (status, code, message)
        found, told = await post(lane, "/rollout/clear?agent=qa_agent")
        assert (found, told["cleared"], told["released"]) == (200, False, False), "a brake is cleared all the same"


async def test_command_gets_names_and_reasons_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "import json; print(json.dumps(dict(agents=argv)))")
    policy = policy_of(
        NOBODY,
        store={"url": f"sqlite:///{tmp_path}/s.db"},
        agents={"--force": {"fine_tuned": "ft:m", "fallback": "m"}},
    )
    async with running(policy) as lane:
        _, told = await post(lane, "/rollout/pause?agent=--force", {"reason": "a 'quoted' {word}"})
    assert told["agents"][:2] == ["rollout", "pause"]
    assert told["agents"][3:] == ["--agent=--force", "--by=admin listener, 127.0.0.1", "--json", "a 'quoted' {word}"]

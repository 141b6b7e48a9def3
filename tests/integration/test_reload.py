"""DESIGN §3.3 and §3.6: another policy while requests are served, and the admin routes that show and force it."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.policy import store as store_module
from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from proxy.stub.config import StubConfig
from proxy.telemetry import metrics
from proxy.telemetry.lines import standard_error
from tests.integration.asking import ask, chat
from tests.support.lane import BASELINE, FINETUNED, FINETUNED_USER, TOKEN, Lane, eventually, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import Action, Pause, RawUpstream, Read, Send, response
from tests.support.served import write_policy

SECRET = "sk-canary-4711"


@asynccontextmanager
async def lane_of(path: Path, **env: str) -> AsyncIterator[Lane]:
    async with running(PolicyStore(path, env)) as lane:
        yield lane


async def admin(lane: Lane, path: str, method: str = "GET", token: str = TOKEN) -> RawResponse:
    address = lane.service.admin
    fields = [("Authorization", f"Bearer {token}")] if token else []
    async with RawClient(address.host, address.port) as client:
        await client.send(request(method, path, b"", fields))
        return await client.read_response()


async def reload(lane: Lane, query: str = "") -> dict[str, Any]:
    answer = await admin(lane, f"/policy/reload{query}", "POST")
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


async def shown(lane: Lane) -> dict[str, Any]:
    return dict(json.loads((await admin(lane, "/policy", token="")).body))


def header(answer: RawResponse, name: str) -> str:
    return (answer.head.get(f"x-splitlane-{name}".encode()) or b"").decode()


# --- applying ---------------------------------------------------------------------------------------


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that tells of no change: files are read when somebody asks, not before."""
    monkeypatch.setattr(store_module, "POLL", 3600)
    monkeypatch.setattr(store_module, "folders_of", lambda files: frozenset())


async def test_new_policy_serves_the_next_request(tmp_path: Path) -> None:
    async with Stub() as stub, lane_of(write_policy(tmp_path, stub.url)) as lane:
        before = await ask(lane, chat())
        assert (header(before, "variant"), header(before, "served")) == ("finetuned", FINETUNED)
        write_policy(tmp_path, stub.url, ab_testing={"rollout_percentage": 0})
        told = await reload(lane)
        assert told["changed"] is True
        after = await ask(lane, chat())
        assert (header(after, "variant"), header(after, "served")) == ("baseline", BASELINE)
        assert header(after, "policy") == told["hash"] != header(before, "policy")
        assert [record.policy_hash for record in lane.records] == [header(before, "policy"), told["hash"]]


async def test_request_in_flight_keeps_its_policy_to_the_end(tmp_path: Path) -> None:
    """The fine-tune is asked under the old policy and fails under the new one: the old baseline answers."""
    async with Stub(StubConfig(faults={"ft:*": "slow=0.3,status=500"})) as stub:
        path = write_policy(tmp_path, stub.url)
        async with lane_of(path) as lane, RawClient(lane.host, lane.port) as client:
            before = lane.service.exchange.policy.hash
            await client.send(chat())
            await eventually(lambda: len(stub.calls) == 1)
            path.write_text(path.read_text().replace(BASELINE, "other-7b"))
            assert (await reload(lane))["changed"]
            answer = await client.read_response()
            assert (answer.status, header(answer, "served"), header(answer, "policy")) == (200, BASELINE, before)
            assert (await lane.record()).policy_hash == before


async def test_unchanged_upstream_keeps_its_connections_and_breakers(tmp_path: Path) -> None:
    failing = StubConfig(faults={"ft:*": "status=500"})
    async with Stub(failing) as stub, lane_of(write_policy(tmp_path, stub.url)) as lane:
        for _ in range(6):
            answer = await ask(lane, chat())
        assert header(answer, "fallback") == "breaker_open"
        connections = {call.connection for call in stub.calls}
        write_policy(tmp_path, stub.url, ab_testing={"rollout_percentage": 30})
        await reload(lane)
        assert header(await ask(lane, chat()), "fallback") == "breaker_open"
        assert {call.connection for call in stub.calls} == connections


async def test_pool_of_a_changed_upstream_is_closed_once_nobody_uses_it(tmp_path: Path) -> None:
    body = b'{"id":"a","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
    script: list[Action] = [Read(), Send(response(body)), Read(), Pause(0.3), Send(response(body))]
    async with RawUpstream(script) as upstream:
        path = write_policy(tmp_path, upstream.url)
        async with lane_of(path) as lane, RawClient(lane.host, lane.port) as client:
            pools = lane.service.exchange.pools
            await client.send(chat())
            assert (await client.read_response()).status == 200
            await client.send(chat())
            await eventually(lambda: len(upstream.requests) == 2)
            old = pools.of(lane.service.exchange.policy.default_upstream)
            write_policy(tmp_path, upstream.url, upstreams={"up": {"base_url": upstream.url, "api_key": "another"}})
            await reload(lane)
            assert (old.open, len(pools)) == (1, 1)  # the request in flight has it
            assert (await client.read_response()).status == 200
            await eventually(lambda: old.open == 0)
            assert len(pools) == 0


async def test_changed_upstream_has_a_pool_that_keeps_its_connections(tmp_path: Path) -> None:
    async with Stub() as stub, lane_of(write_policy(tmp_path, stub.url)) as lane:
        write_policy(tmp_path, stub.url, upstreams={"up": {"base_url": stub.url, "api_key": "another"}})
        await reload(lane)
        for _ in range(3):
            await ask(lane, chat())
        assert {call.header("authorization") for call in stub.calls} == {"Bearer another"}
        assert len({call.connection for call in stub.calls}) == 1


async def test_models_that_left_the_policy_leave_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "GONE_KEPT", 3)
    async with Stub() as stub:
        path = write_policy(tmp_path, stub.url, ab_testing={"rollout_percentage": 100})
        text = path.read_text()
        async with lane_of(path) as lane:
            for number in range(10):
                path.write_text(text.replace(FINETUNED, f"ft-{number}"))
                await reload(lane)
                await ask(lane, chat())
                await lane.record(number + 1)
            assert len(lane.service.metrics._models) <= 3 + 3


async def test_log_level_follows_the_policy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "splitlane")  # put back at the test's end
    logging.getLogger("splitlane").setLevel("INFO")
    async with Stub() as stub, lane_of(write_policy(tmp_path, stub.url)) as lane:
        await ask(lane, chat())
        await lane.record()
        write_policy(tmp_path, stub.url, observability={"log_level": "debug"})
        await reload(lane)
        assert logging.getLogger("splitlane").level == logging.DEBUG
        await ask(lane, chat())
        record = await lane.record(2)
    standard_error.flush(5)
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["request_id"] == record.request_id


# --- POST /policy/reload ----------------------------------------------------------------------------


async def test_reload_of_an_unchanged_file_changes_nothing(tmp_path: Path) -> None:
    async with lane_of(write_policy(tmp_path, "http://127.0.0.1:1")) as lane:
        told = await reload(lane)
        assert told.keys() == {"changed", "hash", "errors", "warnings"}
        assert (told["changed"], told["errors"]) == (False, [])
        assert told["hash"] == lane.service.exchange.policy.hash
        assert {warning["key"] for warning in told["warnings"]} >= {"agents.qa_agent.fine_tuned"}


@pytest.mark.usefixtures("unwatched")
async def test_bad_file_is_a_400_with_every_problem_and_the_old_policy_serves(tmp_path: Path) -> None:
    async with Stub() as stub:
        path = write_policy(tmp_path, stub.url)
        async with lane_of(path) as lane:
            before = (await shown(lane))["hash"]
            write_policy(tmp_path, stub.url, limits={"drain": 25, "max_body": "3 apples"}, limit={})
            for query in ("", "?dry_run=1"):
                answer = await admin(lane, f"/policy/reload{query}", "POST")
                assert answer.status == 400
                error = json.loads(answer.body)["error"]
                assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "bad_policy", None)
                assert {each["key"] for each in error["problems"]} == {"limit", "limits.drain", "limits.max_body"}
                assert all(
                    each["file"] == str(path) and each["line"] and each["expected"] for each in error["problems"]
                )
            state = await shown(lane)
            assert (state["hash"], state["reload_failures"]) == (before, 1)
            assert state["last_error"]["problems"] == error["problems"]
            assert state["last_error"]["at"].endswith("Z")
            assert header(await ask(lane, chat()), "policy") == before
            scraped = (await admin(lane, "/metrics")).body
            assert b"splitlane_policy_reload_failures_total 1.0" in scraped
            assert b"splitlane_policy_reloads_total 0.0" in scraped


@pytest.mark.usefixtures("unwatched")
async def test_dry_run_tells_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    async with lane_of(write_policy(tmp_path, "http://127.0.0.1:1")) as lane:
        before = lane.service.exchange.policy
        write_policy(tmp_path, "http://127.0.0.1:1", ab_testing={"rollout_percentage": 40})
        told = await reload(lane, "?dry_run=1")
        assert told["changed"] is True
        assert told["hash"] != before.hash
        assert told["diff"]["agents"]["qa_agent"]["users"]["baseline_to_finetuned"] == pytest.approx(0.15)
        assert lane.service.exchange.policy is before
        assert (await admin(lane, "/policy/reload?dry_run=yes", "POST")).status == 400


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("wrong", 401), (TOKEN.upper(), 401), ("ü", 401), (TOKEN, 200)]
)
@pytest.mark.parametrize("query", ["", "?dry_run=1"])
async def test_reload_needs_the_admin_token(tmp_path: Path, token: str, status: int, query: str) -> None:
    async with lane_of(write_policy(tmp_path, "http://127.0.0.1:1")) as lane:
        answer = await admin(lane, f"/policy/reload{query}", "POST", token)
        assert answer.status == status
        if status == 401:
            assert "SPLITLANE_ADMIN_TOKEN" in json.loads(answer.body)["error"]["message"]
        assert TOKEN.encode() not in answer.body


# --- GET /policy, /assign ---------------------------------------------------------------------------


async def test_policy_shows_what_is_active(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "http://127.0.0.1:1")
    async with lane_of(path) as lane:
        state = await shown(lane)
        assert state["hash"] == lane.service.exchange.policy.hash
        assert state["files"] == [str(path)]
        assert (state["reloads"], state["reload_failures"], state["last_error"]) == (0, 0, None)
        assert state["policy"]["ab_testing"]["rollout_percentage"] == 25


async def test_assign_explains_a_user_as_the_request_path_decides(tmp_path: Path) -> None:
    async with Stub() as stub, lane_of(write_policy(tmp_path, stub.url)) as lane:
        told = json.loads((await admin(lane, f"/assign?agent=qa_agent&user={FINETUNED_USER}", token="")).body)
        served = await ask(lane, chat())
        assert told.pop("hash") >> 22 == told["bucket"] * 1024 // 10_000
        assert told == {
            "agent": "qa_agent",
            "bucket": 1849,
            "variant": header(served, "variant"),
            "percentage": 25,
            "enters_at": 18.5,
            "salt": f"qa_agent/{FINETUNED}",
            "policy": header(served, "policy"),
        }


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?agent=qa_agent", 400),
        ("?user=u", 400),
        ("?agent=qa_agent&user=%20", 400),
        ("?agent=nobody&user=u", 404),
    ],
)
async def test_assign_without_a_known_agent_or_a_user_says_what_is_missing(
    tmp_path: Path, query: str, status: int
) -> None:
    async with lane_of(write_policy(tmp_path, "http://127.0.0.1:1")) as lane:
        answer = await admin(lane, f"/assign{query}")
        assert answer.status == status
        assert json.loads(answer.body)["error"]["message"]


async def test_no_answer_and_no_log_has_a_secret_or_a_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ACCEPTANCE 28: whatever an operator is shown, before and after a rotation, sound or not."""
    caplog.set_level("DEBUG")
    (tmp_path / "key").write_text(f"{SECRET}-1")
    secrets: dict[str, Any] = {
        "upstreams": {
            "up": {"base_url": "http://127.0.0.1:1", "api_key": "${file:key}"},
            "other": {"base_url": "http://127.0.0.1:1", "api_key": "${KEY}"},
        },
        "default_upstream": "up",
        "store": {"url": f"postgresql://u:{SECRET}@127.0.0.1:1/x", "unit_key": f"{SECRET}{'k' * 32}"},
        "alerting": {"slack_webhook": f"http://127.0.0.1:1/{SECRET}"},
    }
    path = write_policy(tmp_path, "", **secrets)
    answers: list[RawResponse] = []
    async with lane_of(path, KEY=SECRET) as lane:
        for change in ({}, {"limits": {"drain": 25}, "api_keey": SECRET}, {"alerting": {"slack_webhook": SECRET}}):
            (tmp_path / "key").write_text(f"{SECRET}-{len(answers)}")
            write_policy(tmp_path, "", **{**secrets, **change})
            for method, target in (
                ("POST", "/policy/reload?dry_run=1"),
                ("POST", "/policy/reload"),
                ("GET", "/policy"),
                ("GET", f"/assign?agent=qa_agent&user={SECRET}"),
                ("GET", "/metrics"),
            ):
                answers.append(await admin(lane, target, method))
    assert {answer.status for answer in answers} == {200, 400}
    assert "canary" not in repr(answers)
    assert "canary" not in caplog.text

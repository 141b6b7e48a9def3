"""Health probes: models that nobody has asked of late, asked for one token.  DESIGN §3.6."""

import asyncio
import json
import re
from typing import Any

import pytest

from proxy.exchange.probes import PAUSE, ProbedModel, Probes
from proxy.policy.snapshot import Policy
from proxy.stub import Stub
from proxy.words import Failure
from tests.integration.asking import ANSWER, ask, chat
from tests.integration.test_health import health
from tests.support.budgets import PRICES, status_of
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Action, Pause, RawUpstream, Read, Reset, Send, Stall, response

CHEAP = {"*": {"input": 1.0, "output": 2.0}}
SELDOM = {"every": "1h"}  # the tests say when
OK: list[Action] = [Read(), Send(ANSWER)]
DEAD: list[Action] = [Read(), Reset()]


def probed(candidate_url: str, baseline_url: str, probe: dict[str, Any] | None = None, **changes: Any) -> Policy:
    """The fine-tune apart from the baseline, both probed; `changes` as in `policy_of`."""
    return policy_of(
        baseline_url,
        **{
            "upstreams": {"candidate": {"base_url": candidate_url, "api_key": "sk-candidate"}},
            "agents": {"qa_agent": {"fine_tuned": {"upstream": "candidate", "model": FINETUNED}}},
            "prices": CHEAP,
            "observability": {"probe": {**SELDOM, **(probe or {})}},
            **changes,
        },
    )


def probes_of(lane: Lane) -> Probes:
    return lane.service.probes


def model_of(lane: Lane, model: str = FINETUNED) -> ProbedModel:
    (found,) = [each for each in probes_of(lane).models.values() if each.target.model == model]
    return found


async def turns(lane: Lane, count: int) -> None:
    """So many of the fine-tune and of the baseline."""
    for _ in range(2 * count):
        await probes_of(lane).turn()
    assert {window.reserved for window in windows(lane)} <= {0}


def windows(lane: Lane) -> list[Any]:
    budgets = lane.service.exchange.budgets
    return [
        each for kind in (budgets._hours, budgets._days) for open_ in kind._open.values() for each in open_.values()
    ]


async def judged(lane: Lane) -> tuple[str, list[str]]:
    _, shown = await health(lane, "qa_agent")
    return shown["status"], shown["reasons"]


async def metrics(lane: Lane) -> str:
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        await client.send(request("GET", "/metrics"))
        return (await client.read_response()).body.decode()


# --- what is asked, and what is shown ---------------------------------------------------------------


async def test_each_model_is_asked_for_one_token_with_its_own_key_and_shown_by_arm() -> None:
    async with RawUpstream(OK) as candidate, RawUpstream(DEAD) as baseline:
        async with running(probed(candidate.url, baseline.url)) as lane:
            assert (await health(lane, "qa_agent"))[1]["finetuned"]["probe"] is None
            await turns(lane, 1)
            _, shown = await health(lane, "qa_agent")
            text = await metrics(lane)
            assert not lane.records
        (asked,) = candidate.requests
    first, _, body = asked.partition(b"\r\n\r\n")
    assert first.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer sk-candidate\r\n" in first
    message = {"role": "user", "content": "Say yes."}
    assert json.loads(body) == {"model": FINETUNED, "messages": [message], "max_tokens": 1, "stream": False}
    found = {name: shown[name]["probe"] for name in ("finetuned", "baseline")}
    for probe in found.values():
        assert 0 <= probe.pop("seconds") < 5
        assert 0 <= probe.pop("age_seconds") < 5
        assert probe.pop("at").startswith("20")
    assert found == {
        "finetuned": {"model": FINETUNED, "ok": True, "reason": None},
        "baseline": {"model": BASELINE, "ok": False, "reason": "reset"},
    }
    assert 'splitlane_probes_total{agent="qa_agent",outcome="success",variant="finetuned"} 1.0' in text
    assert 'splitlane_probes_total{agent="qa_agent",outcome="reset",variant="baseline"} 1.0' in text
    assert "model_requests_total{" not in text
    assert 'splitlane_breaker_open{agent="qa_agent"} 0.0' in text


async def test_model_that_agents_share_is_asked_once_on_behalf_of_each_in_turn() -> None:
    async with Stub() as stub:
        agents = {name: {"fine_tuned": f"ft:{name}", "fallback": BASELINE} for name in ("a", "b")}
        policy = policy_of(
            stub.url,
            prices=CHEAP,
            observability={"probe": SELDOM},
            agents={**agents, "qa_agent": {"fine_tuned": "ft:a"}},
        )
        async with running(policy) as lane:
            for _ in range(2 * 3):
                await probes_of(lane).turn()
            assert sorted(call.model for call in stub.calls) == sorted(2 * ["ft:a", "ft:b", BASELINE])
            assert probes_of(lane).counts == {
                ("a", "finetuned", "success"): 1,
                ("qa_agent", "finetuned", "success"): 1,
                ("b", "finetuned", "success"): 2,
                ("b", "baseline", "success"): 1,
                ("a", "baseline", "success"): 1,
            }
            _, shown = await health(lane)
            assert {agent["baseline"]["probe"]["model"] for agent in shown["agents"].values()} == {BASELINE}


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, {FINETUNED, BASELINE}),
        ({"models": {"use_finetuned": False}}, {BASELINE}),
        ({"prices": {BASELINE: {"input": 1, "output": 1}}}, {BASELINE}),
        ({"upstreams": {"up": {"api_key": None}}}, set()),
        ({"observability": {}}, set()),
    ],
    ids=["all", "fine-tunes are not in use", "no price", "no key", "off"],
)
async def test_only_what_is_in_use_and_has_key_and_price_is_asked(changes: dict[str, Any], asked: set[str]) -> None:
    async with Stub() as stub:
        base: dict[str, Any] = {"prices": CHEAP, "observability": {"probe": SELDOM}}
        async with running(policy_of(stub.url, **{**base, **changes})) as lane:
            await turns(lane, 1)
        assert {call.model for call in stub.calls} == asked


async def test_timer_gives_every_model_its_turn_within_the_period() -> None:
    async with Stub() as stub, running(probed(stub.url, stub.url, {"every": "1s"})):
        await eventually(lambda: {call.model for call in stub.calls} == {FINETUNED, BASELINE}, within=2)


# --- what it says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ([Read(), Send(response(b'{"choices":[{"message":{"content":""}}]}'))], "success"),
        ([Read(), Send(response(b'{"error":{"message":"max_tokens is not supported"}}', 400))], "success"),
        ([Read(), Send(response(b"{}", 401))], "auth"),
        ([Read(), Send(response(b'{"error":{"code":"model_not_found"}}', 404))], "model_gone"),
        ([Read(), Send(response(b"{}", 500))], "server_error"),
        ([Read(), Send(response(b"<html>"))], "bad_body"),
        ([Read(), Stall()], "total_timeout"),
        ([Read(), Send(response(b"{" + b" " * 2_000_000)), Stall()], "success"),
        ([Reset()], "reset"),
    ],
)
async def test_model_that_is_not_there_twice_in_a_row_makes_its_agent_an_error(
    script: list[Action], outcome: str
) -> None:
    patience = {"timeout": "200ms"} if outcome == "total_timeout" else {}
    async with RawUpstream(script) as candidate, RawUpstream(OK) as baseline:
        async with running(probed(candidate.url, baseline.url, patience)) as lane:
            await turns(lane, 1)
            assert await judged(lane) == ("OK", [])
            await turns(lane, 1)
            fine = outcome == "success"
            assert await judged(lane) == (("OK", []) if fine else ("ERROR", ["probe_failing"]))
            counts = probes_of(lane).counts
            assert {key[2] for key in counts if key[1] == "finetuned"} == {outcome}
            attempts = lane.service.exchange.attempts
            assert not attempts.breaker(model_of(lane).target).is_open
            assert not attempts.brakes.tripped
        if outcome == "total_timeout":
            assert all(each.closed_at is not None for each in candidate.connections)


async def test_nothing_of_an_answer_or_a_key_is_shown_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="splitlane")
    said = response(b'{"error":{"message":"canary","code":"canary","type":"canary"}}', 500, [("x-canary", "canary")])
    async with RawUpstream([Read(), Send(said)]) as upstream, running(probed(upstream.url, upstream.url)) as lane:
        await turns(lane, 2)
        shown = json.dumps(await health(lane)) + await metrics(lane)
    logged = caplog.text
    assert "failed 2 probes in a row (server_error)" in logged
    for text in (shown, logged):
        assert not re.search("canary|sk-candidate|sk-upstream|Say yes", text)


async def test_one_good_probe_takes_it_back() -> None:
    async with (
        RawUpstream(lambda number: DEAD if number <= 2 else OK) as candidate,
        RawUpstream(OK) as baseline,
        running(probed(candidate.url, baseline.url)) as lane,
    ):
        await turns(lane, 2)
        assert await judged(lane) == ("ERROR", ["probe_failing"])
        await turns(lane, 1)
        assert await judged(lane) == ("OK", [])


async def test_a_requests_answer_takes_it_back_at_once_and_spares_the_next_probe() -> None:
    async with (
        RawUpstream(OK) as candidate,
        RawUpstream(lambda number: DEAD if number <= 2 else OK) as baseline,
        running(probed(candidate.url, baseline.url)) as lane,
    ):
        await turns(lane, 2)
        assert await judged(lane) == ("ERROR", ["probe_failing"])
        assert (await ask(lane, chat(user=BASELINE_USER))).status == 200
        assert await judged(lane) == ("OK", [])
        await turns(lane, 1)
        assert len(baseline.requests) == 3, "the model has answered since its last turn"
        assert len(candidate.requests) == 3, "this one has not"
        assert model_of(lane, BASELINE).failures == 0
        await turns(lane, 1)
        assert len(baseline.requests) == 4, "an hour without a request"


async def test_upstream_that_wants_fewer_requests_is_left_alone() -> None:
    limited = response(b"{}", 429, [("retry-after", "300")])
    async with (
        RawUpstream([Read(), Send(limited)]) as candidate,
        RawUpstream(OK) as baseline,
        running(probed(candidate.url, baseline.url)) as lane,
    ):
        await turns(lane, 3)
        assert (len(candidate.requests), len(baseline.requests)) == (1, 3)
        model = model_of(lane)
        rest = model.paused_until - asyncio.get_running_loop().time()
        assert PAUSE < rest <= 300
        model.paused_until = 0.0
        await turns(lane, 1)
        assert await judged(lane) == ("ERROR", ["probe_failing"])
        assert model.failure is Failure.RATE_LIMITED


# --- money ------------------------------------------------------------------------------------------


async def test_probes_stop_before_their_own_day_is_spent_and_are_held_against_nobody() -> None:
    async with RawUpstream(DEAD) as candidate, Stub() as stub:
        policy = probed(candidate.url, stub.url, {"daily_usd": 0.035}, prices=PRICES, budgets={"daily_usd": 1000})
        async with running(policy) as lane:  # a probe of the baseline costs a cent, one of the fine-tune would ten
            await turns(lane, 6)
            assert [call.model for call in stub.calls] == 3 * [BASELINE]
            assert not candidate.requests
            assert probes_of(lane).counts["qa_agent", "baseline", "budget"] == 3
            assert probes_of(lane).counts["qa_agent", "finetuned", "budget"] == 6
            assert round(status_of(lane).spent, 6) == 0.03
            assert await judged(lane) == ("OK", [])
            assert not lane.service.exchange.budgets.exceeded


async def test_last_fifth_of_an_agents_budget_is_left_to_requests() -> None:
    async with Stub() as stub:
        own = {"fine_tuned": {"upstream": "candidate", "model": FINETUNED}, "budgets": {"daily_usd": 0.05}}
        policy = probed(stub.url, stub.url, {"daily_usd": 50}, prices=PRICES, agents={"qa_agent": own})
        async with running(policy) as lane:
            await turns(lane, 6)
            assert [call.model for call in stub.calls] == 4 * [BASELINE]
            assert round(status_of(lane, "qa_agent").spent, 6) == 0.04


# --- drain and reload -------------------------------------------------------------------------------


async def test_drain_cuts_a_probe_is_not_delayed_by_it_and_no_reload_begins_anew() -> None:
    async with RawUpstream([Read(), Stall()]) as candidate, RawUpstream([Read(), Stall()]) as baseline:
        policy = probed(candidate.url, baseline.url, {"every": "1s", "timeout": "60s"})
        async with running(policy) as lane:
            await eventually(lambda: bool(candidate.requests or baseline.requests))
            async with asyncio.timeout(2):
                await lane.service.stop()
            probes = probes_of(lane)
            probes.follow(policy)
            assert probes._task is None
            assert not probes.counts
            assert {window.reserved for window in windows(lane)} <= {0}
        connections = candidate.connections + baseline.connections
        await eventually(lambda: all(each.closed_at is not None for each in connections))


async def test_reload_keeps_what_is_known_of_the_models_that_stay() -> None:
    async with RawUpstream(DEAD) as candidate, RawUpstream(OK) as baseline, RawUpstream(OK) as moved:
        first = probed(candidate.url, baseline.url)
        async with running(first) as lane:
            probes = probes_of(lane)
            await turns(lane, 2)
            task = probes._task
            probes.follow(probed(candidate.url, baseline.url, models={"fallback_enabled": False}))
            assert model_of(lane).failures == 2
            assert probes._task is task, "a reload of something else begins no new period"
            probes.follow(probed(moved.url, baseline.url))
            assert (model_of(lane).failures, model_of(lane, BASELINE).asked) == (0, 2)
            probes.follow(policy_of(baseline.url))
            assert (probes.models, probes._task) == ({}, None)
            await probes.turn()
            probes.follow(first)
            assert probes._task is not None


async def test_request_is_answered_while_a_probe_hangs() -> None:
    async with (
        RawUpstream([Read(), Pause(0.15), Send(ANSWER)]) as candidate,
        RawUpstream(OK) as baseline,
        running(probed(candidate.url, baseline.url)) as lane,
    ):
        probing = asyncio.create_task(probes_of(lane).turn())
        await eventually(lambda: len(candidate.requests) == 1)
        assert (await ask(lane, chat(user=BASELINE_USER))).status == 200
        assert not probing.done()
        await probing
        assert model_of(lane).failure is None

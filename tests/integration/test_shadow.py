"""Shadow: copies of baseline requests to the fine-tune, which no client ever notices."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.exchange.shadow import AgentShadow
from proxy.ledger.open import open_database
from proxy.policy.snapshot import Policy
from proxy.stub import Stub, StubConfig
from proxy.words import Failure, Record
from tests.integration.asking import ANSWER, ask, chat, chat_body
from tests.integration.streaming import DONE, MORE, ROLE, STREAM_HEAD, TEXT
from tests.support.budgets import PRICES, status_of
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import (
    Action,
    Close,
    Pause,
    RawUpstream,
    Read,
    Reset,
    Send,
    Stall,
    chunk,
    event_stream,
    head,
    response,
)

pytestmark = pytest.mark.alone  # the writer runs when nobody else wants to

SHADOW = {"percentage": 100}
OK: list[Action] = [Read(), Send(ANSWER)]
STREAM: list[Action] = [Read(), Send(event_stream(ROLE, TEXT, MORE, DONE))]
BODY = chat_body(max_tokens=10)


def shadowed(candidate_url: str, baseline_url: str, shadow: dict[str, Any] | None = None, **changes: Any) -> Policy:
    """The fine-tune apart from the baseline, and each baseline request copied to it; `changes` as in `policy_of`."""
    fine_tuned = {"upstream": "candidate", "model": FINETUNED}
    return policy_of(
        baseline_url,
        **{
            "upstreams": {"candidate": {"base_url": candidate_url, "api_key": "sk-candidate"}},
            "agents": {"qa_agent": {"fine_tuned": fine_tuned, "shadow": {**SHADOW, **(shadow or {})}}},
            "prices": PRICES,
            **changes,
        },
    )


def state_of(lane: Lane) -> AgentShadow:
    return lane.service.exchange.shadow.agents["qa_agent"]


def watch(lane: Lane) -> list[Record]:
    """The records of copies from now on."""
    found: list[Record] = []
    lane.service.exchange.shadow.sinks = (found.extend,)
    return found


async def ask_baseline(lane: Lane, body: bytes = BODY) -> RawResponse:
    answer = await ask(lane, chat(body, user=BASELINE_USER))
    assert answer.clean_end
    return answer


async def settled(lane: Lane, drawn: int = 1) -> AgentShadow:
    """The counts once that many requests were drawn and no copy is under way, when nothing may be held."""
    state = state_of(lane)
    await eventually(lambda: state.drawn >= drawn and not state.in_flight)
    exchange = lane.service.exchange
    assert (exchange.buffered.total, exchange.buffered.lent, exchange.in_flight) == (0, 0, 0)
    assert state.drawn == sum(state.outcomes.values()) + sum(state.dropped.values())
    for windows in (exchange.budgets._hours, exchange.budgets._days):
        for scopes in windows._open.values():
            assert {window.reserved for window in scopes.values()} <= {0}
    return state


def sent(request: bytes) -> tuple[bytes, dict[str, Any]]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head, json.loads(body)


# --- what is copied ---------------------------------------------------------------------------------


async def test_copy_asks_the_fine_tune_with_its_own_key_and_none_of_the_clients_fields() -> None:
    headers = [("Authorization", "Bearer sk-client"), ("Idempotency-Key", "once"), ("traceparent", "00-1-2-01")]
    async with RawUpstream(OK) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane:
            answer = await ask(lane, chat(BODY, user=BASELINE_USER, headers=headers))
            await settled(lane)
        assert answer.status == 200
        assert answer.head.get(b"x-splitlane-served") == BASELINE.encode()
        (asked,), (copied,) = baseline.requests, candidate.requests
    assert sent(asked)[1] == {**json.loads(BODY), "model": BASELINE}
    first, body = sent(copied)
    assert body == {**json.loads(BODY), "model": FINETUNED, "stream": False}
    lines = dict(line.split(b": ", 1) for line in first.split(b"\r\n")[1:])
    assert first.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert lines.pop(b"Host") == candidate.url.removeprefix("http://").encode()
    assert lines.pop(b"Content-Length") == b"%d" % len(copied.partition(b"\r\n\r\n")[2])
    assert lines == {
        b"Authorization": b"Bearer sk-candidate",
        b"Accept": b"application/json",
        b"Content-Type": b"application/json",
        b"Accept-Encoding": b"identity",
    }


@pytest.mark.parametrize("dialect", ["openai", "mistral"])
async def test_streams_copy_is_one_answer_in_one_piece_in_the_fine_tunes_dialect(dialect: str) -> None:
    body = chat_body(max_tokens=10, stream=True, stream_options={"include_usage": True}, store=True, seed=7, user="u")
    async with RawUpstream(OK) as candidate, RawUpstream(STREAM) as baseline:
        own = {"base_url": candidate.url, "dialect": dialect}
        policy = shadowed(candidate.url, baseline.url, upstreams={"candidate": own})
        async with running(policy) as lane:
            answer = await ask_baseline(lane, body)
            await settled(lane)
        assert b"more" in answer.body
        copied = sent(candidate.requests[0])[1]
    seed: dict[str, Any] = {"seed": 7, "user": "u"} if dialect == "openai" else {"random_seed": 7}
    assert copied == {**json.loads(BODY), "model": FINETUNED, "stream": False, **seed}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(chat(BODY, user=FINETUNED_USER), id="fine-tuned"),
        pytest.param(chat(BODY, user=None), id="unassigned"),
        pytest.param(chat(BODY, user=BASELINE_USER, headers=[("x-splitlane-variant", "baseline")]), id="override"),
        pytest.param(chat(BODY, user=BASELINE_USER, agent="stranger"), id="unknown-agent"),
        pytest.param(chat(BODY, user=BASELINE_USER, target="/v1/embeddings"), id="passed-through"),
        pytest.param(chat(b"[]", user=BASELINE_USER), id="no-chat"),
    ],
)
async def test_nothing_else_than_what_was_assigned_to_the_baseline_is_copied(asked: bytes) -> None:
    async with RawUpstream(OK) as upstream:
        policy = policy_of(
            upstream.url,
            agents={"qa_agent": {"shadow": SHADOW}},
            prices=PRICES,
            identity={"allow_override": True},
        )
        async with running(policy) as lane:
            await ask(lane, asked)
            await lane.record()
            assert state_of(lane).drawn == 0
        assert len(upstream.requests) <= 1


@pytest.mark.parametrize("fault", ["status=500", "status=400", "empty", "cut=2"])
async def test_what_the_baseline_did_not_answer_is_not_copied(fault: str) -> None:
    async with Stub(StubConfig(faults={"*": fault})) as stub:
        policy = policy_of(
            stub.url,
            agents={"qa_agent": {"shadow": SHADOW}},
            prices=PRICES,
            fallback={"retry": {"baseline": 0}},
        )
        async with running(policy) as lane:
            await ask(lane, chat(chat_body(stream=fault.startswith("cut")), user=BASELINE_USER))
            await lane.record()
            assert state_of(lane).drawn == 0
        assert {call.model for call in stub.calls} == {BASELINE}


@pytest.mark.parametrize("name", ["tools", "functions", "web_search_options", "tool_choice"])
async def test_request_with_tools_is_not_copied(name: str) -> None:
    async with RawUpstream(OK) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane:
            await ask_baseline(lane, chat_body(**{name: []}))
            assert (await settled(lane)).dropped == {"tools": 1}
        assert not candidate.connections


async def test_body_that_cannot_be_adapted_is_dropped_and_its_client_has_its_answer() -> None:
    members = {f"m{index}": 1 for index in range(2_000)}
    async with RawUpstream(OK) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane:
            assert (await ask_baseline(lane, chat_body(max_tokens=10, stream=False, **members))).status == 200
            assert (await settled(lane)).dropped == {"body": 1}
        assert not candidate.connections


async def test_share_of_the_requests_is_copied_whoever_asks() -> None:
    async with (
        RawUpstream(OK) as candidate,
        RawUpstream(OK) as baseline,
        running(shadowed(candidate.url, baseline.url, {"percentage": 30, "max_in_flight": 256})) as lane,
    ):
        async with RawClient(lane.host, lane.port) as client:
            for _ in range(200):
                await client.send(chat(BODY, user=BASELINE_USER))
                await client.read_response()
        drawn = (await settled(lane, 1)).drawn
    assert 25 < drawn < 100, "one user's requests: some are drawn, others not"


# --- the client -------------------------------------------------------------------------------------


async def test_nothing_is_sent_to_the_fine_tune_before_the_client_has_its_whole_answer() -> None:
    opening = head(200, STREAM_HEAD) + chunk(ROLE) + chunk(TEXT)
    script: list[Action] = [Read(), Send(opening), Pause(0.15), Send(chunk(MORE) + chunk(DONE) + b"0\r\n\r\n")]
    async with RawUpstream(OK) as candidate, RawUpstream(script) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane, RawClient(lane.host, lane.port) as client:
            await client.send(chat(BODY[:-1] + b',"stream":true}', user=BASELINE_USER))
            seen = b""
            while b"0\r\n\r\n" not in seen:
                assert not candidate.connections
                seen += await client.read()
            await settled(lane)
        assert len(candidate.requests) == 1


FAILING: list[tuple[list[Action], str]] = [
    ([Read(), Stall()], "total_timeout"),
    ([Read(), Reset()], "reset"),
    ([Close()], "reset"),
    ([Read(), Send(response(b"no", 500))], "server_error"),
    ([Read(), Send(response(b"{}", 401))], "auth"),
    ([Read(), Send(response(b"not json"))], "bad_body"),
    ([Read(), Send(response(b'{"choices":[]}'))], "empty"),
    ([Read(), Send(response(ANSWER.partition(b"\r\n\r\n")[2])[:-9]), Stall()], "total_timeout"),
    ([Read(), Send(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")], "bad_body"),
]


@pytest.mark.parametrize(("script", "outcome"), FAILING)
async def test_client_does_not_notice_a_fine_tune_that_fails(script: list[Action], outcome: str) -> None:
    async with (
        RawUpstream(script) as candidate,
        RawUpstream(OK) as baseline,
        running(shadowed(candidate.url, baseline.url, {"timeout": "150ms"})) as lane,
    ):
        copies = watch(lane)
        answers = [await ask_baseline(lane)]
        await settled(lane)
        answers.append(await ask_baseline(lane))
        state = await settled(lane, 2)
        assert state.outcomes == {outcome: 2}
        assert [record.failure for record in copies] == [Failure(outcome)] * 2
        assert all(record.cost == 0 for record in copies)
        exchange = lane.service.exchange
        assert not exchange.attempts._breakers, "no breaker has heard of it"
        assert [record.failure for record in lane.records] == [None, None]
    assert [(answer.status, answer.head.get(b"x-splitlane-attempts")) for answer in answers] == [(200, b"1")] * 2


async def test_fine_tune_that_is_not_there_is_counted_and_nothing_else() -> None:
    async with RawUpstream(OK) as baseline, running(shadowed("http://127.0.0.1:1", baseline.url)) as lane:
        assert (await ask_baseline(lane)).status == 200
        assert (await settled(lane)).outcomes == {"connect": 1}


async def test_flood_answer_is_cut_after_a_megabyte() -> None:
    flood = response(b'{"choices":[' + b" " * (3 << 20) + b"]}")
    async with RawUpstream([Read(), Send(flood, size=1 << 16), Stall()]) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane:
            assert (await ask_baseline(lane)).status == 200
            assert (await settled(lane)).outcomes == {"success": 1}
        assert candidate.connections[0].closed_at


# --- caps -------------------------------------------------------------------------------------------


async def test_no_more_copies_than_allowed_are_in_flight_and_requests_go_on() -> None:
    async with RawUpstream([Read(), Stall()]) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url, {"max_in_flight": 2})) as lane:
            answers = await asyncio.gather(*(ask_baseline(lane) for _ in range(10)))
            state = state_of(lane)
            assert (state.drawn, state.in_flight, state.dropped) == (10, 2, {"in_flight": 8})
            await eventually(lambda: len(candidate.requests) == 2)
            assert lane.service.exchange.buffered.total == lane.service.exchange.buffered.lent == 2 * len(BODY)
            assert lane.service.exchange.in_flight == 0
        await eventually(lambda: all(each.closed_at for each in candidate.connections))
    assert {answer.status for answer in answers} == {200}


async def test_upstream_that_wants_fewer_requests_gets_no_copies_for_a_while() -> None:
    limited: list[Action] = [Read(), Send(response(b"{}", 429))]
    async with (
        RawUpstream(limited) as candidate,
        RawUpstream(OK) as baseline,
        running(shadowed(candidate.url, baseline.url)) as lane,
    ):
        for number in range(3):
            await ask_baseline(lane)
            await settled(lane, number + 1)
        state = state_of(lane)
        assert (state.outcomes, state.dropped) == ({"rate_limited": 1}, {"rate_limited": 2})


async def test_nothing_is_copied_while_the_proxy_is_half_full() -> None:
    limits = {"max_in_flight": 4}
    slow: list[Action] = [Read(), Pause(0.3), Send(ANSWER)]
    async with (
        RawUpstream(OK) as candidate,
        RawUpstream(lambda number: OK if number == 4 else slow) as baseline,
        running(shadowed(candidate.url, baseline.url, limits=limits)) as lane,
    ):
        asking = [asyncio.create_task(ask_baseline(lane)) for _ in range(3)]
        await eventually(lambda: len(baseline.requests) == 3)
        await ask_baseline(lane)
        await eventually(lambda: state_of(lane).drawn == 1)
        assert state_of(lane).dropped == {"load": 1}
        await asyncio.gather(*asking)
        assert (await settled(lane, 4)).outcomes["success"] >= 2


async def test_request_that_finds_no_room_gets_that_of_the_copies() -> None:
    """Two copies hold a third of `max_buffered`: a body that needs the whole of it is served all the same."""
    size = 64 << 10
    limits = {"max_body": "192KiB", "max_buffered": "192KiB"}
    some, whole = (chat_body(max_tokens=10, note="x" * length) for length in (size // 2, 3 * size - 200))
    async with (
        RawUpstream([Read(), Stall()]) as candidate,
        RawUpstream(OK) as baseline,
        running(shadowed(candidate.url, baseline.url, limits=limits)) as lane,
    ):
        await ask_baseline(lane, some)
        await ask_baseline(lane, some)
        await eventually(lambda: len(candidate.requests) == 2)
        assert (await ask_baseline(lane, whole)).status == 200
        state = await settled(lane, 3)
        assert state.dropped == {"load": 3}, "the two that gave way, and the one that is too large itself"


# --- money ------------------------------------------------------------------------------------------


async def test_copies_are_paid_for_by_all_budgets_and_stop_before_their_own_day_is_spent() -> None:
    budgets = {"daily_usd": 100, "on_exceeded": "reject"}
    async with Stub() as stub:
        own = {"qa_agent": {"shadow": {**SHADOW, "daily_usd": 2.5}, "budgets": {"daily_usd": 50}}}
        async with running(policy_of(stub.url, agents=own, budgets=budgets, prices=PRICES)) as lane:
            copies = watch(lane)
            for number in range(5):
                assert (await ask_baseline(lane)).status == 200
                await settled(lane, number + 1)
            state = state_of(lane)
            assert (state.outcomes, state.dropped) == ({"success": 2}, {"budget": 3})
            assert state.cost == pytest.approx(2.0)
            assert [record.cost for record in copies] == [pytest.approx(1.0)] * 2
            for scope in ("all", "qa_agent"):
                assert status_of(lane, scope).spent == pytest.approx(2.0 + 5 * 0.1)


@pytest.mark.parametrize("scope", ["all", "qa_agent"])
async def test_last_fifth_of_a_budget_is_left_to_requests(scope: str) -> None:
    limit = {"daily_usd": 5, "on_exceeded": "reject"}
    own = {"shadow": SHADOW, **({"budgets": limit} if scope == "qa_agent" else {})}
    async with Stub() as stub:
        policy = policy_of(
            stub.url, agents={"qa_agent": own}, prices=PRICES, **({"budgets": limit} if scope == "all" else {})
        )
        async with running(policy) as lane:
            for number in range(12):
                assert (await ask_baseline(lane)).status == 200
                await settled(lane, number + 1)
            state = state_of(lane)
            assert (state.outcomes["success"], state.dropped["budget"]) == (3, 9)
            assert status_of(lane, scope).spent == pytest.approx(3 + 1.2)


async def test_money_of_copies_is_remembered_by_the_store_under_the_shadow(store_url: str) -> None:
    """An agent's next life begins with what its copies have spent of their day, and of the budgets'."""
    own = {"qa_agent": {"shadow": {**SHADOW, "daily_usd": 1.5}, "budgets": {"daily_usd": 50}}}
    async with Stub() as stub:
        policy = policy_of(
            stub.url, agents=own, prices=PRICES, store={"url": store_url, "unit_key": "0123456789abcdef" * 4}
        )
        async with running(policy) as lane:
            await ask_baseline(lane)
            assert (await settled(lane)).outcomes == {"success": 1}
        async with running(policy) as lane:
            await ask_baseline(lane)
            assert (await settled(lane)).dropped == {"budget": 1}
            assert status_of(lane, "qa_agent").spent == pytest.approx(1 + 2 * 0.1)
    database = open_database(store_url, read_only=True)
    try:
        routes = database.execute("SELECT route, count(*) FROM requests GROUP BY route ORDER BY route")
        rows = database.execute("SELECT assignment, requests, ok, cost FROM hours ORDER BY assignment")
        compared = database.execute("SELECT variant, sum(requests) FROM rollups GROUP BY variant")
        exposed = database.execute("SELECT count(*) FROM exposures WHERE variant <> 'baseline'")
        people = database.execute("SELECT unit FROM requests WHERE route = 'shadow'")
    finally:
        database.close()
    assert routes == [("chat", 2), ("shadow", 1)]
    assert [row[0] for row in rows if row[0] == "shadow"] == ["shadow"]
    assert [row[1:] for row in rows if row[0] == "shadow"] == [(1, 1, pytest.approx(1.0))]
    assert compared == [("baseline", 2)]
    assert exposed == [(0,)]
    assert people == [("",)]


# --- its record and its metrics ---------------------------------------------------------------------


async def test_record_says_how_it_went_and_nothing_of_whom_and_what() -> None:
    async with Stub() as stub:
        policy = policy_of(stub.url, agents={"qa_agent": {"shadow": SHADOW}}, prices=PRICES)
        async with running(policy) as lane:
            copies = watch(lane)
            await ask_baseline(lane)
            await settled(lane)
            (record,), (original,) = copies, lane.records
    assert (record.route, record.agent, record.decision.assignment) == ("shadow", "qa_agent", "shadow")
    assert (record.unit, record.response_id, record.decision.bucket, record.trace) == ("", "", -1, None)
    assert (record.served, record.status, record.failure) == (FINETUNED, 200, None)
    assert record.request_id != original.request_id
    assert record.policy_hash == original.policy_hash
    assert record.usage is not None
    assert (record.usage.completion, record.usage.estimated) == (10, False)
    assert record.cost == pytest.approx(1.0)
    assert record.latency >= record.blocked > 0
    assert [(each.model, each.upstream) for each in record.attempts] == [(FINETUNED, "up")]


async def test_copies_are_in_no_metric_of_requests() -> None:
    async with Stub() as stub:
        policy = policy_of(stub.url, agents={"qa_agent": {"shadow": SHADOW}}, prices=PRICES)
        async with running(policy) as lane:
            for number in range(3):
                await ask_baseline(lane)
                await settled(lane, number + 1)
            async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
                await client.send(request("GET", "/metrics"))
                lines = (await client.read_response()).body.decode().splitlines()
    requests = [line for line in lines if line.startswith(("model_requests_total", "splitlane_assignments_total"))]
    assert {line.rpartition(" ")[2] for line in requests} == {"3.0"}
    assert len(requests) == 2
    assert not any("finetuned" in line for line in lines if line.startswith("model_"))
    assert 'splitlane_shadow_total{agent="qa_agent",outcome="success"} 3.0' in lines
    assert 'splitlane_shadow_cost_usd_total{agent="qa_agent"} 3.0' in lines


# --- drain and reload -------------------------------------------------------------------------------


async def test_drain_cuts_copies_and_is_not_delayed_by_them() -> None:
    async with RawUpstream([Read(), Stall()]) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane:
            copies = watch(lane)
            await ask_baseline(lane)
            await eventually(lambda: len(candidate.requests) == 1)
            async with asyncio.timeout(2):
                await lane.service.stop()
            assert (await settled(lane)).dropped == {"draining": 1}
            assert not copies
        await eventually(lambda: candidate.connections[0].closed_at is not None)


async def test_nothing_is_copied_while_draining() -> None:
    async with RawUpstream(OK) as candidate, RawUpstream([Read(), Pause(0.1), Send(ANSWER)]) as baseline:
        async with running(shadowed(candidate.url, baseline.url)) as lane:
            asking = asyncio.create_task(ask_baseline(lane))
            await eventually(lambda: len(baseline.requests) == 1)
            stopping = asyncio.create_task(lane.service.stop())
            assert (await asking).status == 200
            await stopping
            assert (await settled(lane)).dropped == {"draining": 1}
        assert not candidate.connections


async def test_copy_survives_a_reload_and_is_forgotten_with_its_agent() -> None:
    async with RawUpstream([Read(), Pause(0.1), Send(ANSWER)]) as candidate, RawUpstream(OK) as baseline:
        first = shadowed(candidate.url, baseline.url)
        gone = policy_of(baseline.url)
        async with running(first) as lane:
            exchange = lane.service.exchange
            copies = watch(lane)
            await ask_baseline(lane)
            await eventually(lambda: len(candidate.requests) == 1)
            state = state_of(lane)
            exchange.adopt(gone)
            assert exchange.shadow.agents == {"qa_agent": state}
            exchange.adopt(first)
            assert state_of(lane) is state
            exchange.adopt(gone)
            await eventually(lambda: not exchange.shadow.agents)
            assert (state.outcomes, state.in_flight) == ({"success": 1}, 0)
            assert [record.policy_hash for record in copies] == [first.hash]
            assert (await ask_baseline(lane)).status == 200


# --- cut anywhere -----------------------------------------------------------------------------------


def _after(answered: int) -> Callable[[int], list[Action]]:
    """The peer closes a connection that has answered once just as it is asked again."""
    return lambda number: [*OK, Close()] if number <= answered else [Read(), Stall()]


@pytest.mark.parametrize("turns", range(8))
async def test_copy_that_is_cut_at_any_turn_of_the_loop_leaves_nothing_behind(turns: int) -> None:
    async with (
        RawUpstream([Read(), Pause(0.005), Send(ANSWER)]) as candidate,
        RawUpstream(OK) as baseline,
        running(shadowed(candidate.url, baseline.url)) as lane,
    ):
        shadow = lane.service.exchange.shadow
        await ask_baseline(lane)
        await settled(lane)
        for first in (True, False):
            if first:
                shadow._pools.close_idle()  # once with a connection to make, once with one that is there
            drawn = state_of(lane).drawn
            asking = asyncio.create_task(ask_baseline(lane))
            while state_of(lane).drawn == drawn:
                await asyncio.sleep(0)
            for _ in range(turns * 2):
                await asyncio.sleep(0)
            shadow._give_way()
            assert lane.service.exchange.buffered.lent == 0
            assert (await asking).status == 200
            await settled(lane, drawn + 1)


async def test_stale_connection_is_no_failure_of_a_copy() -> None:
    async with RawUpstream(_after(1)) as candidate, RawUpstream(OK) as baseline:
        async with running(shadowed(candidate.url, baseline.url, {"timeout": "200ms"})) as lane:
            await ask_baseline(lane)
            await settled(lane)
            await ask_baseline(lane)
            assert set((await settled(lane, 2)).outcomes) == {"success", "total_timeout"}
        assert len(candidate.connections) == 2


async def test_clients_pool_is_left_alone() -> None:
    """A copy neither takes a connection that a request would have used, nor a place among its connections."""
    pool = {"max_connections": 1, "wait": "50ms"}
    async with RawUpstream(lambda number: OK if number == 1 else [Read(), Stall()]) as upstream:
        policy = policy_of(
            upstream.url, upstreams={"up": {"pool": pool}}, agents={"qa_agent": {"shadow": SHADOW}}, prices=PRICES
        )
        async with running(policy) as lane:
            for _ in range(3):
                assert (await ask_baseline(lane)).status == 200
            await eventually(lambda: len(upstream.connections) == 2)
            assert len(upstream.connections[0].requests) == 3

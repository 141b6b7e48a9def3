"""ACCEPTANCE 23, exhaustively: a request that ends at any of its awaits, or between two of them, leaves nothing behind.

One request is played again and again; the k-th time it is cut short at its k-th await, until it is over before that.
It is cut in three ways: its client resets while it waits; it is cancelled in the moment in which what it waits for
comes; its client resets after k turns of the loop, wherever the request may be by then.  Each time everything that it
took must have been given back, and there must be one record of it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from proxy.exchange.client import Client
from proxy.policy.snapshot import Policy
from proxy.upstream.connection import Connection
from proxy.upstream.pool import Pool
from proxy.words import Failure, Record
from tests.integration.streaming import FINISH, MORE, ROLE, TEXT
from tests.support.budgets import PRICES, status_of
from tests.support.lane import Lane, eventually, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import (
    Action,
    Close,
    Pause,
    RawUpstream,
    Read,
    Reset,
    Send,
    chunk,
    event_stream,
    response,
)
from tests.support.rescue import BODY, OK, STREAM_BODY, apart, chat

How = Literal["waiting", "arriving", "turn"]
HOWS: tuple[How, ...] = ("waiting", "arriving", "turn")

STREAM = event_stream(ROLE, TEXT, MORE, FINISH)
ERROR_EVENT = b'data: {"error":{"message":"overloaded"}}\n\n'
# Headers, then event by event, with turns of the loop in between.
SLOWLY: list[Action] = [Pause(0), Send(chunk(TEXT)), Pause(0), Send(chunk(MORE)), Pause(0)]
PARTS = STREAM.partition(chunk(TEXT))
STREAMING: list[Action] = [Read(), Send(PARTS[0]), *SLOWLY, Send(chunk(FINISH) + b"0\r\n\r\n")]
FAILING: list[Action] = [Read(), Send(response(b"{}", 500))]
ENDING: list[Action] = [Read(), Send(OK.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)), Close()]
ANSWERING: list[Action] = [Read(), Send(OK)]
UPLOAD = request("POST", "/v1/files", b"x" * 600, [("X-Agent", "qa_agent")])


@dataclass
class Case:
    """What one request meets on its way."""

    candidate: Sequence[Action]
    baseline: Sequence[Action] = field(default_factory=lambda: ANSWERING)
    body: bytes = BODY
    raw: bytes = b""  # the request, where it is none of the fine-tune's chats
    size: int = 0  # bytes it is sent in at a time
    retry: dict[str, int] = field(default_factory=dict)
    busy: bool = False  # the only connection that there may be is another's, and comes free after a while
    probe: bool = False  # the breaker is open, and lets this one through
    awaits: int = 1  # at least so many has it

    @property
    def sent(self) -> bytes:
        return self.raw or chat(self.body)


CASES = {
    "json": Case(ANSWERING),
    "json_on_a_new_connection": Case(ENDING, awaits=2),
    "json_whose_body_comes_in_pieces": Case(ANSWERING, size=90, awaits=2),
    "json_rescued_from_a_refusal": Case(FAILING, awaits=2),
    "json_rescued_from_a_reset": Case([Read(), Reset()], awaits=3),
    "json_retried": Case(FAILING, FAILING, retry={"finetuned": 1, "baseline": 1}, awaits=5),
    "json_that_fails_everywhere": Case(FAILING, FAILING, awaits=2),
    "json_that_waits_for_a_connection": Case(ANSWERING, busy=True, awaits=2),
    "json_that_probes": Case(ANSWERING, probe=True),
    "json_that_probes_and_is_rescued": Case(FAILING, probe=True, awaits=2),
    "stream": Case(STREAMING, body=STREAM_BODY, awaits=2),
    "stream_on_a_new_connection": Case([*STREAMING, Close()], body=STREAM_BODY, awaits=3),
    "stream_rescued_from_an_error_event": Case(
        [Read(), Send(event_stream(ROLE, ERROR_EVENT))], STREAMING, STREAM_BODY, awaits=3
    ),
    "stream_rescued_from_an_end": Case([Read(), Send(event_stream(ROLE))], STREAMING, STREAM_BODY, awaits=3),
    "stream_cut_after_content": Case([Read(), Send(PARTS[0]), *SLOWLY, Reset()], body=STREAM_BODY, awaits=3),
    "upload": Case(ANSWERING, raw=UPLOAD, size=200, awaits=3),
}


def policy(case: Case, candidate: str, baseline: str) -> Policy:
    return apart(
        candidate,
        baseline,
        candidate={"pool": {"max_connections": 1, "wait": "5s"}} if case.busy else {},
        timeouts={"first_byte": "5s", "first_content": "5s", "idle": "5s"},
        fallback={"retry": case.retry, "retry_budget": {"min": 100}, "breaker": {"failures": 1_000}},
        budgets={"daily_usd": 1_000_000, "on_exceeded": "reject"},
        prices=PRICES,
    )


@dataclass
class Knife:
    """Counts the awaits of each request, and cuts it short."""

    serve: Callable[[Client], Awaitable[None]]
    how: How = "waiting"
    at: int = 0  # which await, from 1, or how many turns of the loop; 0: never
    awaits: int = 0  # of the latest request, until now
    cut: bool = False  # the latest request was in flight at that moment
    over: bool = True  # … and is no more

    def arm(self, how: How, at: int) -> None:
        self.how, self.at = how, at
        self.awaits, self.cut, self.over = 0, False, False

    def __call__(self, client: Client) -> Awaitable[None]:
        if self.how == "turn" and self.at:
            self._count_down(client, self.at)
        return _Stepped(self, client)

    def wait_for(self, future: Any, client: Client) -> None:
        """The request is about to wait for `future`."""
        self.awaits += 1
        if self.awaits != self.at or self.how == "turn":
            return
        task = asyncio.current_task()
        assert task is not None
        self.cut = True
        if self.how == "waiting" or future is None:
            leave(client)
        else:
            future.add_done_callback(lambda _: task.cancel())

    def _count_down(self, client: Client, turns: int) -> None:
        if self.over:
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._count_down, client, turns - 1)
            return
        self.cut = True
        leave(client)


class _Stepped:
    """The coroutine that serves a request, resumed by hand."""

    def __init__(self, knife: Knife, client: Client) -> None:
        self._knife, self._client = knife, client

    def __await__(self) -> Generator[Any, Any, None]:
        serving = self._knife.serve(self._client).__await__()
        error: BaseException | None = None
        try:
            while True:
                try:
                    future = next(serving) if error is None else serving.throw(error)
                except StopIteration:
                    return
                self._knife.wait_for(future, self._client)
                try:
                    yield future
                    error = None
                except BaseException as raised:
                    error = raised
        finally:
            self._knife.over = True


def leave(client: Client) -> None:
    """Close the client's connection as a reset does."""
    client.connection.transport.abort()  # type: ignore[attr-defined]


@dataclass
class Table:
    """A proxy between two upstreams, and what is there while no request is."""

    case: Case
    lane: Lane
    upstreams: tuple[RawUpstream, RawUpstream]
    knife: Knife
    tasks: set[str] = field(default_factory=set)
    records: int = 0

    async def serve(self, how: How, at: int) -> Record:
        """One request that is cut there, and its record; afterwards nothing of it may be left."""
        self.knife.arm(how, at)
        self.prepare()
        async with RawClient(self.lane.host, self.lane.port) as client:
            answer: RawResponse | None = None
            try:
                await client.send(self.case.sent, self.case.size)
                answer = await client.read_response()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
        await eventually(lambda: self.knife.over and not self.lane.service._listener.open)
        self.records += 1
        await eventually(lambda: len(self.lane.records) >= self.records)
        await self.everything_is_given_back()
        record = self.lane.records[-1]
        assert self.knife.cut or answer is not None, "who was not cut was answered"
        return record

    def prepare(self) -> None:
        exchange = self.lane.service.exchange
        target = exchange.policy.agents[b"qa_agent"].finetuned
        if self.case.probe:
            exchange.attempts.breaker(target)._open_until = 0.001  # it has been for longer than `open`
        pool = exchange.pools.of(target.upstream)
        if self.case.busy and (held := pool.take()) is not None:
            self.give_back(pool, held, 4)

    def give_back(self, pool: Pool, held: Connection, turns: int) -> None:
        """Let the connection go some turns after somebody began to wait for it."""
        if self.knife.over or not turns:
            pool.released(held)
        else:
            asyncio.get_running_loop().call_soon(self.give_back, pool, held, turns - bool(pool._waiting))

    async def everything_is_given_back(self) -> None:
        exchange = self.lane.service.exchange
        assert len(self.lane.records) == self.records, "one record for one request"
        assert exchange.in_flight == 0
        assert exchange.buffered.total == 0
        assert status_of(self.lane).reserved == 0
        assert not any(breaker._probing for breaker in exchange.attempts._breakers.values())
        await eventually(lambda: all(len(pool._live) == pool.idle for pool in exchange.pools._pools.values()))
        for pool in exchange.pools._pools.values():
            assert (pool._reserved, len(pool._waiting)) == (0, 0), "no place in the pool is kept"
        await eventually(lambda: self.running() <= self.tasks)

    def running(self) -> set[str]:
        """Tasks, without the upstreams' own: one for each idle connection."""
        return {name for task in asyncio.all_tasks() if not (name := task.get_name()).startswith("raw-upstream")}


@asynccontextmanager
async def table(case: Case) -> AsyncIterator[Table]:
    async with AsyncExitStack() as stack:
        candidate = await stack.enter_async_context(RawUpstream(case.candidate))
        baseline = await stack.enter_async_context(RawUpstream(case.baseline))
        lane = await stack.enter_async_context(running(policy(case, candidate.url, baseline.url)))
        knife = Knife(lane.service.exchange.handle)
        lane.service._listener.handler = lambda _: knife
        found = Table(case, lane, (candidate, baseline), knife)
        found.tasks = found.running() | {"policy folders"}  # which begins a little later
        yield found


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_request_that_is_cut_anywhere_leaves_nothing_behind(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.exchange.attempts.BACKOFF", 0.0002)
    async with table(case) as at:
        await at.serve("waiting", 0)  # from now on there are idle connections, where the upstream keeps them
        whole = await at.serve("waiting", 0)
        assert at.knife.awaits >= case.awaits
        for how in HOWS:
            number = 0
            while number == 0 or at.knife.cut:
                number += 1
                record = await at.serve(how, number)
                assert (record.status, record.failure) in [(499, Failure.CLIENT_GONE), (whole.status, whole.failure)]
            assert number > case.awaits
            assert (record.status, record.failure) == (whole.status, whole.failure), "and the next is served as before"

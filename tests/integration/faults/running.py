"""Cells carried out, many at a time: an agent for each in one proxy, with upstreams and a network of its own."""

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from proxy.stub import Stub, StubConfig
from proxy.words import Failure, Record
from tests.integration.faults.cells import DOWN, Cell, Form, Kind, Phase, Where, Who, spec_of
from tests.integration.faults.outcome import BASELINE, FINETUNED, Outcome, failure_of, faults_of, outcome_of, reached
from tests.support.lane import Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawHead, request
from tests.support.relay import Relay
from tests.support.rescue import BODIES, CHAT
from tests.support.toxics import (
    ARRIVE,
    At,
    Bandwidth,
    Down,
    Hold,
    Latency,
    LimitData,
    Once,
    Place,
    Reset,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

# The time-out that a cell waits for; all others are the defaults, so that a slow machine fails no cell by another.
QUICK = "200ms"
WHOLE = "2s"  # of a whole answer, which is to begin within it
REQUEST_BODY = "400ms"
AT_ONCE = 48
PATIENCE = 30.0  # of a client, and of everything else that is waited for: far beyond what any cell may take

TOXICS: dict[str, Toxic] = {
    "latency": Latency(0.01),
    "latency-beyond": Latency(60.0),
    "bandwidth": Bandwidth(50_000.0),
    "bandwidth-beyond": Bandwidth(1.0),
    "slow_close": SlowClose(0.05),
    "timeout": Timeout(),
    "reset": Reset(),
    "slicer": Slicer(16),
    "limit_data": LimitData(),
    "down": Down(),
}
HEAD = re.compile(rb"\r\n\r\n")
# Where the phases of the stub's responses begin.
PLACES: dict[tuple[Form, Phase], Place] = {
    (Form.JSON, Phase.HEADERS): 0,
    (Form.JSON, Phase.CONTENT): HEAD,
    (Form.JSON, Phase.MIDDLE): re.compile(rb'"content":"'),
    (Form.JSON, Phase.END): re.compile(rb'"rejected_prediction_tokens":0'),
    (Form.SSE, Phase.HEADERS): 0,
    (Form.SSE, Phase.CONTENT): re.compile(rb'"role":"assistant".*?\n\n\r\n', re.DOTALL),
    (Form.SSE, Phase.MIDDLE): re.compile(rb'(?:"delta":\{"content":.*?\n\n\r\n.*?){2}', re.DOTALL),
    (Form.SSE, Phase.END): re.compile(rb"data: \[DONE\]\n\n\r\n"),
}
_TIMEOUTS = {
    Failure.FIRST_BYTE_TIMEOUT: "first_byte",
    Failure.FIRST_CONTENT_TIMEOUT: "first_content",
    Failure.IDLE_TIMEOUT: "idle",
}


@dataclass
class Heard:
    """What a client has heard so far."""

    head: RawHead | None = None
    body: bytearray = field(default_factory=bytearray)
    clean: bool = False


class Trial:
    """One cell: its agent, the networks around it, and what its client heard."""

    def __init__(self, number: int, cell: Cell) -> None:
        self.cell = cell
        self.faults = faults_of(cell)
        self.name = f"cell-{number}"
        self.heard = Heard()
        self.upstreams: dict[str, Relay] = {}
        self.strike, self.release = asyncio.Event(), asyncio.Event()
        self._client: Relay | None = None

    # --- before the proxy runs ----------------------------------------------------------------

    async def lay(self, stack: AsyncExitStack, stub: Stub) -> None:
        """Lay the networks between the proxy and its upstreams."""
        held = self.cell
        if held.where is Where.TO_CLIENT:
            role = FINETUNED if held.who is Who.FINETUNED else BASELINE
            hold = At(PLACES[held.form, held.phase], Hold(self.release))
            self.upstreams[role] = await stack.enter_async_context(Relay(stub.port, response=[hold]))
        for role, cell in self.faults.items():
            if cell.where is Where.TO_UPSTREAM:
                relay = Relay(stub.port, request=[At(HEAD, TOXICS[cell.fault.name])])
            elif cell.where is Where.FROM_UPSTREAM:
                relay = Relay(stub.port, response=[At(PLACES[cell.form, cell.phase], TOXICS[cell.fault.name])])
            else:
                continue
            self.upstreams[role] = await stack.enter_async_context(relay)
            if cell.where is Where.TO_UPSTREAM and cell.fault is DOWN:
                relay.down()

    def policy(self, stub: Stub) -> tuple[dict[str, Any], dict[str, Any]]:
        """The agent's settings, and those of upstreams of its own; calls without a fault go to one for all."""
        own = {role: f"{self.name}-{role}" for role in {*self.faults, *self.upstreams}}
        upstreams = {
            name: {
                "base_url": self.upstreams[role].url if role in self.upstreams else stub.url,
                "timeouts": _timeouts(self.faults.get(role)),
            }
            for role, name in own.items()
        }
        targets = {
            role: {"upstream": own.get(role, "up"), "model": f"{role}:{self.name}"} for role in (FINETUNED, BASELINE)
        }
        percentage = 0 if self.cell.who is Who.BASELINE else 100
        agent = {
            "fine_tuned": targets[FINETUNED],
            "fallback": targets[BASELINE],
            "rollout_percentage": percentage,
        }
        return agent, upstreams

    # --- while it runs ------------------------------------------------------------------------

    async def run(self, lane: Lane) -> None:
        """Ask once, on a connection of its own, and let the fault strike."""
        cell = self.cell
        port = lane.port
        async with AsyncExitStack() as stack:
            if cell.where in (Where.FROM_CLIENT, Where.TO_CLIENT):
                network = self._client = await stack.enter_async_context(self._clients_network(port))
                port = network.port
            client = await stack.enter_async_context(RawClient(lane.host, port, timeout=PATIENCE))
            await client.send(self._request())
            if cell.where is not Where.TO_CLIENT:
                await self._listen(client)
                return
            listening = asyncio.create_task(self._listen(client))
            await self._let_strike()
            if cell.fault.kind in (Kind.SILENT, Kind.TRICKLES):  # the client will wait for ever
                await eventually(lambda: any(record.agent == self.name for record in lane.settled), PATIENCE)
                listening.cancel()
            await asyncio.wait([listening])

    def _clients_network(self, port: int) -> Relay:
        toxic = TOXICS[self.cell.fault.name]
        if self.cell.where is Where.FROM_CLIENT:
            return Relay(port, request=[At(HEAD, toxic)])
        return Relay(port, response=[Once(self.strike, toxic)])

    async def _let_strike(self) -> None:
        """Once the response has come as far as the phase, make the client's network bad; then let it go on."""
        (upstream,) = self.upstreams.values()
        async with asyncio.timeout(PATIENCE):
            await upstream.struck.wait()
        await asyncio.sleep(ARRIVE)
        await asyncio.sleep(ARRIVE)  # the loop looks at its sockets between the two
        self.strike.set()
        client = self._client
        assert client is not None
        if self.cell.fault.kind is Kind.ENDS:
            await eventually(lambda: not client.links, PATIENCE)
        await asyncio.sleep(ARRIVE)
        await asyncio.sleep(ARRIVE)
        self.release.set()
        if self.cell.fault.kind is Kind.ENDS:
            await eventually(lambda: not upstream.links, PATIENCE)

    def _request(self) -> bytes:
        cell = self.cell
        fields = [("X-Agent", self.name), ("X-User-Id", "somebody"), ("Content-Type", "application/json")]
        told = {role: each for role, each in self.faults.items() if each.where is Where.MODEL}
        if told:
            only = f"model={next(iter(told))}:*," if len(told) == 1 else ""
            fields.append(("X-Stub-Fault", only + spec_of(next(iter(told.values())))))
        return request("POST", CHAT, BODIES["json" if cell.form is Form.JSON else "stream"], fields)

    async def _listen(self, client: RawClient) -> None:
        heard = self.heard
        try:
            head = heard.head = await client.read_head()
            length = head.get(b"content-length")
            if length is None:
                while data := await client.read_chunk():
                    heard.body += data
                heard.clean = data is not None
                return
            while len(heard.body) < int(length):
                piece = await client.read()
                if not piece:
                    return
                heard.body += piece
            heard.clean = True
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass  # what came is what counts

    # --- afterwards ---------------------------------------------------------------------------

    def outcome(self, stub_calls: Counter[str], records: Sequence[Record], metrics: "Counts") -> Outcome:
        """What was seen of it."""
        head, expected = self.heard.head, outcome_of(self.cell)
        mine = [record for record in records if record.agent == self.name]
        record = mine[0] if len(mine) == 1 else None
        return Outcome(
            0 if head is None else head.status,
            self.heard.clean,
            self._code(),
            self._field("served"),
            self._field("fallback"),
            {role: n for role in (FINETUNED, BASELINE) if (n := stub_calls[f"{role}:{self.name}"])},
            expected.record if not expected.agent else _of(record),
            ()
            if record is None
            else tuple((_role(each.model), reached(each), each.failure or "") for each in record.attempts),
            "none" if record is None or record.usage is None else "estimated" if record.usage.estimated else "counted",
            expected.metrics if not expected.agent else metrics.of(self.name),
            expected.agent,
        )

    @property
    def announced(self) -> str:
        """The number of attempts, as the client was told it; empty: it was not."""
        head = self.heard.head
        return "" if head is None else (head.get(b"x-splitlane-attempts") or b"").decode()

    def _field(self, name: str) -> str:
        if self.heard.head is None:
            return ""
        return _role((self.heard.head.get(b"x-splitlane-" + name.encode()) or b"").decode())

    def _code(self) -> str:
        """The code of an error of ours: the whole answer, or the last event."""
        if not self.heard.body.startswith(b"data: ") and self._field("served"):
            return ""
        last = bytes(self.heard.body).rstrip(b"\n").rpartition(b"\n\n")[2].removeprefix(b"data: ")
        try:
            code = json.loads(last)["error"]["code"]
        except (ValueError, LookupError, TypeError):
            return ""
        return code or ""


def _role(model: str) -> str:
    return model.partition(":")[0]


def _of(record: Record | None) -> tuple[int, str, str, str]:
    if record is None:
        return (0, "", "", "")
    return (record.status, record.failure or "", record.fallback or "", _role(record.served))


def _timeouts(cell: Cell | None) -> dict[str, str]:
    """The short time-out of an upstream whose calls are to meet one."""
    failure = None if cell is None else failure_of(cell)
    if cell is not None and failure is Failure.TOTAL_TIMEOUT:
        held = cell.form is Form.JSON or cell.buffered
        return {"total" if held else "stream": WHOLE}
    return {_TIMEOUTS[failure]: QUICK} if failure in _TIMEOUTS else {}


class Counts:
    """What the metrics count, by agent: requests by outcome, errors and fallbacks by reason, where above 0."""

    def __init__(self, lane: Lane) -> None:
        metrics = lane.service.metrics
        self._of: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (agent, _, _), series in metrics.series():
            self._add(agent, "model_requests_total success", series.successes)
            for outcome, number in series.outcomes.items():
                self._add(agent, f"model_requests_total {outcome}", number)
            for reason, number in series.errors.items():
                self._add(agent, f"model_errors_total {reason}", number)
        for (agent, reason), number in metrics.fallbacks():
            self._add(agent, f"model_fallbacks_total {reason}", number)

    def of(self, agent: str) -> dict[str, int]:
        """One agent's."""
        return self._of[agent]

    @property
    def requests(self) -> int:
        """The sum of `model_requests_total` over everything."""
        return sum(
            number
            for counts in self._of.values()
            for name, number in counts.items()
            if name.startswith("model_requests_total")
        )

    def _add(self, agent: str, name: str, number: int) -> None:
        if number:
            counts = self._of[agent]
            counts[name] = counts.get(name, 0) + number


async def mismatches(cells: Sequence[Cell]) -> list[str]:
    """Run the cells, and say where what was seen is not what the rules say; empty: nowhere."""
    before = asyncio.all_tasks()
    trials = [Trial(number, cell) for number, cell in enumerate(cells)]
    async with Stub(StubConfig(words=4)) as stub, AsyncExitStack() as stack:
        for trial in trials:
            await trial.lay(stack, stub)
        agents, upstreams = {}, {}
        for trial in trials:
            agents[trial.name], mine = trial.policy(stub)
            upstreams.update(mine)
        policy = policy_of(
            stub.url,
            agents=agents,
            upstreams=upstreams,
            fallback={"retry_budget": {"ratio": 1, "min": 1000}, "buffer_stream": any(cell.buffered for cell in cells)},
            limits={"request_body": REQUEST_BODY},
        )
        async with running(policy) as lane:
            turn = asyncio.Semaphore(AT_ONCE)

            async def run(trial: Trial) -> None:
                async with turn:
                    await trial.run(lane)

            async with asyncio.TaskGroup() as group:
                for trial in trials:
                    group.create_task(run(trial))
            await eventually(lambda: len(lane.records) >= len(trials), PATIENCE)
            await lane.idle()
            await eventually(lambda: not lane.service.connections, PATIENCE)
            counts = Counts(lane)
            calls = Counter(call.model for call in stub.calls)
            found = [
                *_differences(trials, calls, lane.records, counts),
                *_leaks(trials, lane, counts),
            ]
    await asyncio.sleep(0)
    if left := {task.get_name() for task in asyncio.all_tasks() - before}:
        found.append(f"tasks left: {left}")
    return found


def _differences(
    trials: Sequence[Trial], calls: Counter[str], records: Sequence[Record], counts: Counts
) -> Iterator[str]:
    nameless = Counter(outcome.record for trial in trials if not (outcome := outcome_of(trial.cell)).agent)
    for trial in trials:
        expected, seen = outcome_of(trial.cell), trial.outcome(calls, records, counts)
        for name, should, did in zip(Outcome._fields, expected, seen, strict=True):
            if should != did:
                yield f"{trial.cell}: {name} should be {should!r}, was {did!r}"
        if expected.agent and (announced := trial.announced) not in ("", str(len(expected.attempts))):
            yield f"{trial.cell}: {announced} attempts announced, {len(expected.attempts)} made"
    found = Counter(_of(record) for record in records if record.agent == "other")
    if found != nameless:
        yield f"records of no agent should be {nameless}, were {found}"


def _leaks(trials: Sequence[Trial], lane: Lane, counts: Counts) -> Iterator[str]:
    """ACCEPTANCE 37, and that nothing is held any more."""
    if not counts.requests == len(lane.records) == len(trials):
        yield f"{len(trials)} requests, {len(lane.records)} records, {counts.requests} in the metrics"
    exchange = lane.service.exchange
    if exchange.in_flight or exchange.buffered.total:
        yield f"{exchange.in_flight} in flight, {exchange.buffered.total} bytes held"
    ids = [record.request_id for record in lane.records]
    if len(set(ids)) != len(ids):
        yield "a record stands twice"

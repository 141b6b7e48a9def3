"""Everything at once: requests by the hundred, each with what goes wrong drawn by chance, and an account of them.

    async with Chaos(seed=7) as chaos, running(policy_of(chaos.baseline.url, **chaos.sections())) as lane:
        await chaos.ask(lane.host, lane.port)
        ...  # chaos.account

Faults are drawn for the models (the stub's words), for each connection to an upstream and for some clients' own
(`tests.support.toxics`), and for what clients do. Upstreams go down now and then. Clients that stay on a network
that is well must get an answer, whole or visibly broken, of one model: `Account.wrong` lists those that did not.
"""

import asyncio
import json
import random
import re
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from proxy.stub import Stub, StubConfig
from tests.support.lane import BASELINE, FINETUNED
from tests.support.raw_client import RawClient, RawHead, request
from tests.support.relay import Network, Relay
from tests.support.rescue import BODIES, CHAT
from tests.support.toxics import (
    At,
    Bandwidth,
    Down,
    Latency,
    LimitData,
    Reset,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

# Of a model's calls.  Times are beyond the time-outs of `sections`, or far below.
MODEL = (
    "slow=0.02", "slow=3", "reset", "silence", "status=500", "status=503,retry_after=0.02", "status=429",
    "status=400", "auth", "context_length", "content_filter", "model_gone", "null", "not_json", "error_200", "empty",
    "empty=content", "no_usage", "slow_first=0.02", "slow_first=3", "drip=0.005", "drip=0.2", "cut=0", "cut=2",
    "cut_reset=0", "cut_reset=2", "stall=0", "stall=2", "comments=3", "error_first", "error=2", "malformed=1",
    "role_only", "no_done",
)  # fmt: skip
# Short enough to be met; long enough for a machine that does other work, too: a time-out leads to another connection,
# and where every answer is late, connections are all that is made.
TIMEOUTS = {
    "connect": "2s", "first_byte": "800ms", "first_content": "900ms", "idle": "800ms", "total": "4s", "stream": "5s",
}  # fmt: skip
POOL = {"keepalive": "500ms"}  # new connections, and their faults, come all the time
# What clients do; the rest stay and read.
MISDEEDS = {"leaves": 0.06, "resets": 0.04, "half-closes": 0.02, "stops-in-its-body": 0.03, "bad-network": 0.08}
HEAD = re.compile(rb"\r\n\r\n")
USERS = 200
# A client that stays waits longer than any answer may take.
PATIENCE = 20.0


@dataclass
class Account:
    """What happened, as the clients saw it."""

    sent: int = 0  # requests whose head went out, whoever sent it
    stayed: int = 0  # … by clients that wait for their answer
    answered: int = 0  # … and got one
    whole: int = 0  # … sound, to its end
    broken: int = 0  # … visibly broken off
    rescued: int = 0  # … by the baseline, in the fine-tune's place
    faults: Counter[str] = field(default_factory=Counter)  # drawn, by kind
    statuses: Counter[int] = field(default_factory=Counter)
    seen: dict[str, int] = field(default_factory=dict)  # status by request id
    wrong: list[str] = field(default_factory=list)  # answers that never came, or were no answers

    @property
    def lost(self) -> int:
        """Clients that stayed, and got nothing."""
        return self.stayed - self.answered


class Chaos:
    """A stub behind two bad networks, and clients; what is drawn depends on `seed` and the order of events."""

    def __init__(self, seed: int) -> None:
        self.account = Account()
        self._draw = random.Random(seed)
        self._stub = Stub(StubConfig(words=6, seed=seed))
        self._stack = AsyncExitStack()
        self._fronts: dict[int, Relay] = {}  # bad networks in front of a proxy, by its port
        self._weather: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._stub)
        self.candidate = await self._stack.enter_async_context(
            Relay(self._stub.port, choose=lambda _: self._network(0.3, "candidate"))
        )
        self.baseline = await self._stack.enter_async_context(
            Relay(self._stub.port, choose=lambda _: self._network(0.1, "baseline"))
        )
        self._weather = asyncio.create_task(self._storms(), name="chaos-weather")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.calm_down()
        await self._stack.aclose()

    def sections(self) -> dict[str, Any]:
        """The policy's sections that the lab asks for: one agent, whose models have an upstream each."""
        upstreams = {
            "candidate": {"base_url": self.candidate.url, "timeouts": TIMEOUTS, "pool": POOL},
            "baseline": {"base_url": self.baseline.url, "timeouts": TIMEOUTS, "pool": POOL},
        }
        agent = {
            "fine_tuned": {"upstream": "candidate", "model": FINETUNED},
            "fallback": {"upstream": "baseline", "model": BASELINE},
            "rollout_percentage": 70,
        }
        return {
            "upstreams": upstreams,
            "default_upstream": "baseline",
            "agents": {"qa_agent": agent},
            "limits": {"request_body": "400ms"},
            "fallback": {"breaker": {"failures": 20, "open": "200ms"}},
            "rollout": {"brake": {"enabled": False}},  # it would end the trial
        }

    async def calm_down(self) -> None:
        """No upstream goes down any more, and networks that hold a client's connection let go of it."""
        for front in self._fronts.values():
            front.down()
        if self._weather is not None:
            self._weather.cancel()
            await asyncio.wait([self._weather])
            self._weather = None

    async def ask(self, host: str, port: int) -> None:
        """One request, with whatever goes wrong with it."""
        draw, account = self._draw, self.account
        deed = draw.choices((*MISDEEDS, "stays"), (*MISDEEDS.values(), 1 - sum(MISDEEDS.values())))[0]
        sent = self._request()
        patience = draw.uniform(0.0, 0.3)
        if deed == "bad-network":
            port = (await self._front(port)).port
            patience = 1.0
        async with RawClient(host, port, timeout=PATIENCE) as client:
            account.sent += 1
            if deed == "stays":
                account.stayed += 1
                await client.send(sent)
                await self._read(client)
                return
            account.faults[f"client {deed}"] += 1
            await client.send(sent[:-20] if deed == "stops-in-its-body" else sent)
            reading = asyncio.create_task(client.read_response())
            await asyncio.wait([reading], timeout=patience)
            if deed == "half-closes" and not reading.done():
                client.half_close()
                await asyncio.wait([reading])
            reading.cancel()
            await asyncio.wait([reading])
            if deed == "resets":
                client.reset()

    async def _front(self, port: int) -> Relay:
        if port not in self._fronts:
            relay = Relay(port, choose=lambda _: self._clients_network())
            self._fronts[port] = relay
            await self._stack.enter_async_context(relay)
        return self._fronts[port]

    # --- what is drawn ------------------------------------------------------------------------

    def _request(self) -> bytes:
        draw = self._draw
        fields = [
            ("X-Agent", "qa_agent"),
            ("X-User-Id", f"user-{draw.randrange(USERS)}"),
            ("Content-Type", "application/json"),
        ]
        chance = draw.random()
        if chance < 0.4:
            spec = draw.choice(MODEL)
            only = "" if chance < 0.08 else "model=ft:*,"  # the rest are the baseline's, too
            fields.append(("X-Stub-Fault", only + spec))
            self.account.faults[f"model {spec.partition('=')[0]}"] += 1
        return request("POST", CHAT, draw.choice(list(BODIES.values())), fields)

    def _network(self, bad: float, name: str) -> Network:
        """Of one connection to an upstream: it strikes anywhere within the first answers."""
        if self._draw.random() >= bad:
            return Network()
        toxic = self._toxic()
        self.account.faults[f"{name}'s network {type(toxic).__name__}"] += 1
        placed = At(self._draw.randrange(6000), toxic)
        return Network(request=[placed]) if self._draw.random() < 0.2 else Network(response=[placed])

    def _clients_network(self) -> Network:
        """Of one client: the head of its request goes through, so that it is one."""
        toxic = self._toxic()
        if self._draw.random() < 0.4:
            return Network(request=[At(HEAD, toxic)])
        return Network(response=[At(self._draw.randrange(3000), toxic)])

    def _toxic(self) -> Toxic:
        draw = self._draw
        toxics: list[Toxic] = [
            Latency(draw.choice((0.01, 0.5))),
            Bandwidth(draw.choice((100_000.0, 500.0))),
            Slicer(draw.choice((7, 61))),
            SlowClose(0.1),
            Timeout(draw.choice((0.0, 0.1))),
            Reset(),
            LimitData(draw.randrange(200)),
        ]
        return draw.choice(toxics)

    async def _storms(self) -> None:
        """Now and then an upstream is down for a moment."""
        while True:
            await asyncio.sleep(self._draw.uniform(0.5, 2.0))
            relay = self.candidate if self._draw.random() < 0.7 else self.baseline
            self.account.faults[f"{'candidate' if relay is self.candidate else 'baseline'} {Down.__name__}"] += 1
            relay.down()
            try:
                await asyncio.sleep(self._draw.uniform(0.02, 0.15))
            finally:
                await relay.up()

    # --- what comes back ----------------------------------------------------------------------

    async def _read(self, client: RawClient) -> None:
        account = self.account
        try:
            answer = await client.read_response()
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            account.wrong.append(f"no answer: {error!r}")
            return
        account.answered += 1
        account.statuses[answer.status] += 1
        account.rescued += answer.head.get(b"x-splitlane-fallback") is not None
        name = (answer.head.get(b"x-splitlane-request-id") or b"").decode()
        account.seen[name] = answer.status
        if not answer.clean_end:
            account.broken += 1
        elif answer.status == 200:
            account.whole += 1
        if problem := problem_of(answer.head, answer.body, clean=answer.clean_end):
            account.wrong.append(f"{name}: {problem}")


def problem_of(head: RawHead, body: bytes, *, clean: bool) -> str | None:
    """What is wrong with an answer, whether or not it is a failure; None: nothing."""
    served = (head.get(b"x-splitlane-served") or b"").decode()
    if not head.get(b"x-splitlane-request-id"):
        return "it has no id"
    stream = (head.get(b"content-type") or b"").startswith(b"text/event-stream")
    if not stream:
        if not clean:
            return "a short JSON answer is broken off"
        return None if _models(body) <= {served} else f"{served} does not stand in {body[:200]!r}"
    events = [each.removeprefix(b"data: ") for each in body.split(b"\n\n")]
    models = set().union(*map(_models, events))
    if not models <= {served}:
        return f"{served} served, and events are of {models}"
    if not clean and b'"error"' not in events[-2]:
        return f"a stream is broken off without an error event: {events[-2][:200]!r}"
    return None


def _models(data: bytes) -> set[str]:
    """The model that a JSON object names."""
    try:
        model = json.loads(data)["model"]
    except (ValueError, LookupError, TypeError):
        return set()
    return {model}

"""Shadow: a copy of what the baseline has answered goes to the fine-tune, whose answer nobody gets.

Laws:

- A copy is made after its client's answer.  It has a task, connections and a budget of its own: no request waits
  for it, or fails by it.
- Copies are what gives way: none is made while the proxy is half full, or draining, and a body that finds no room
  gets theirs.
- What a copy holds of memory, money and places is given back once, however it ends.
- Drawn = by outcome + dropped + in flight, for each agent.
- No breaker, brake or retry budget hears of it, and nothing of an answer is kept.
"""

import asyncio
import logging
import time
from collections import defaultdict
from functools import partial
from typing import Final

from proxy.budget.budgets import Budgets
from proxy.budget.reservation import Reservation
from proxy.exchange.attempts import ask_aside
from proxy.exchange.call import CallState, used
from proxy.exchange.intake import Buffered
from proxy.exchange.reply import Reply
from proxy.exchange.request import copy_head
from proxy.exchange.send import discard
from proxy.ids import new_id
from proxy.ledger import Sink
from proxy.outbox import Outbox
from proxy.policy.snapshot import AgentPolicy, Policy, ShadowPolicy
from proxy.split.assign import is_copied
from proxy.tasks import spawn
from proxy.upstream.dialect import render
from proxy.upstream.pool import Pools
from proxy.wire.body import Body, BodyError
from proxy.words import Assignment, Attempt, Decision, Failure, Record, Variant

log: Final = logging.getLogger("splitlane.exchange")

# Whose presence keeps a request from being copied: its model may ask for what is to be done once, or look on the web.
TOOLS: Final = frozenset({"tools", "tool_choice", "functions", "function_call", "web_search_options"})
# The part of `max_in_flight` and of `max_buffered` above which nothing is copied.
NEARLY: Final = 0.5
# How long an agent's copies stop after the upstream has said that there are too many requests, seconds.
PAUSE: Final = 60.0
# How long copies that are cut at the end may take to go, seconds.
CUT_GRACE: Final = 0.2

# Why a request that was drawn has not been copied to the end.
TOOL_CALLS: Final = "tools"
UNADAPTABLE: Final = "body"  # it cannot be adapted to the fine-tune's dialect
TOO_MANY: Final = "in_flight"
BUSY: Final = "load"
TOO_DEAR: Final = "budget"
PAUSED: Final = "rate_limited"
DRAINING: Final = "draining"
INTERNAL: Final = "internal"  # a fault of ours; the log has it
REASONS: Final[tuple[str, ...]] = (TOOL_CALLS, UNADAPTABLE, TOO_MANY, BUSY, TOO_DEAR, PAUSED, DRAINING, INTERNAL)

_BASELINE: Final = Assignment.BASELINE
_DECISION: Final = Decision(Variant.FINETUNED, Assignment.SHADOW, -1)


class AgentShadow:
    """What one agent's copies have come to."""

    def __init__(self) -> None:
        self.drawn = 0
        self.in_flight = 0
        self.outcomes: defaultdict[str, int] = defaultdict(int)  # success, or a failure word
        self.dropped: defaultdict[str, int] = defaultdict(int)  # by reason
        self.cost = 0.0  # US dollars
        self.paused_until = 0.0  # loop time


class Copy:
    """One copy, from when its request is answered to its record."""

    reply: Reply | None = None
    asked = 0.0
    cut = INTERNAL  # why it is cancelled; nobody else does that

    def __init__(
        self, call: CallState, body: Body, agent: AgentPolicy, shadow: ShadowPolicy, held: Reservation
    ) -> None:
        self.body: Body | None = body  # until it is sent
        self.size = len(body.raw)
        self.lent = self.size  # bytes of `max_buffered` that it holds
        self.path = call.path
        self.policy_hash = call.policy.hash
        self.agent = agent
        self.shadow = shadow
        self.held = held
        self.time = time.time()
        self.started = time.perf_counter()
        self.task: asyncio.Task[None] | None = None


class Shadow:
    """Makes copies; owns their tasks, their connections and their counts."""

    def __init__(
        self, policy: Policy, loop: asyncio.AbstractEventLoop, outbox: Outbox, budgets: Budgets, buffered: Buffered
    ) -> None:
        self.agents: dict[str, AgentShadow] = {}  # those that have a shadow, or a copy still in flight
        self.draining = False
        self.sinks: tuple[Sink, ...] = ()  # who gets each record
        self._loop = loop
        self._budgets = budgets
        self._buffered = buffered
        self._pools = Pools(loop, outbox)
        self._copies: set[Copy] = set()
        buffered.give_way = self._give_way
        self.keep(policy)

    def keep(self, policy: Policy) -> None:
        """Copy by `policy` from now on; copies in flight go on, and other agents are forgotten."""
        self._policy = policy
        self._pools.keep(policy.upstreams.values())
        current = {agent.name for agent in policy.agents.values() if agent.shadow is not None}
        self.agents = {name: state for name, state in self.agents.items() if name in current or state.in_flight}
        for name in current:
            self.agents.setdefault(name, AgentShadow())

    def offer(self, call: CallState, agent: AgentPolicy, shadow: ShadowPolicy, in_flight: int) -> None:
        """Copy a settled request, if the baseline answered it, it is drawn, and nothing speaks against it.

        `in_flight` is how many requests are being served.  Never waits.
        """
        body = call.body
        if (
            body is None
            or call.failure is not None
            or call.decision.assignment is not _BASELINE
            or call.policy is not self._policy
            or not is_copied(shadow, call.request_id)
        ):
            return
        state = self.agents[agent.name]
        state.drawn += 1
        obstacle = self._obstacle(body, state, shadow, in_flight)
        if obstacle:
            state.dropped[obstacle] += 1
            return
        held = self._budgets.admit_copy(call.policy, agent, shadow, body, time.time())
        if held is None:
            state.dropped[TOO_DEAR] += 1
            return
        copy = Copy(call, body, agent, shadow, held)
        self._buffered.total += copy.lent
        self._buffered.lent += copy.lent
        state.in_flight += 1
        self._copies.add(copy)
        copy.task = spawn(self._send(copy), "shadow")
        # Not in the coroutine: one that is cancelled before its first step never sees its own `finally`.
        copy.task.add_done_callback(partial(self._ended, copy, state))

    async def stop(self) -> None:
        """Make no copy any more, and cut those in flight."""
        self.draining = True
        tasks = [copy.task for copy in self._copies if copy.task is not None]
        self._cut(DRAINING)
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_GRACE)
        self._pools.close_idle()

    def _obstacle(self, body: Body, state: AgentShadow, shadow: ShadowPolicy, in_flight: int) -> str:
        """What speaks against a copy, money apart; empty: nothing does."""
        limits = self._policy.limits
        if not TOOLS.isdisjoint(body.names):
            return TOOL_CALLS
        if self.draining:
            return DRAINING
        if state.in_flight >= shadow.max_in_flight:
            return TOO_MANY
        if self._loop.time() < state.paused_until:
            return PAUSED
        held = self._buffered.total + len(body.raw)
        if in_flight > limits.max_in_flight * NEARLY or held > limits.max_buffered * NEARLY:
            return BUSY
        return ""

    async def _send(self, copy: Copy) -> None:
        """Ask the fine-tune.  Raises BodyError where the body cannot be adapted to it."""
        target, body = copy.agent.finetuned, copy.body
        assert body is not None
        rendered, _, _ = render(body, target, copy.agent.defaults, stream=False, copy=True)
        body = copy.body = None
        request = copy_head(copy.path, target.upstream, len(rendered)) + rendered
        loop = self._loop
        total = loop.time() + copy.shadow.timeouts.total
        reply = copy.reply = Reply(loop, copy.shadow.timeouts, total)
        pool = self._pools.of(target.upstream)
        copy.asked = time.perf_counter()
        await ask_aside(pool, request, reply, total, loop)

    def _ended(self, copy: Copy, state: AgentShadow, task: asyncio.Task[None]) -> None:
        """Settle a copy, whatever its end."""
        self._copies.discard(copy)
        self._let_go(copy)
        state.in_flight -= 1
        cost = 0.0
        reply = copy.reply
        if reply is not None:
            discard(reply)
        if task.cancelled():
            state.dropped[copy.cut] += 1
        elif (error := task.exception()) is not None:
            state.dropped[UNADAPTABLE if isinstance(error, BodyError) else INTERNAL] += 1
            if not isinstance(error, BodyError):
                log.error("a copy for the shadow of %s failed inside the proxy", copy.agent.name, exc_info=error)
        elif reply is not None:
            record = _record(copy, reply)
            cost = record.cost
            state.cost += cost
            state.outcomes["success" if record.failure is None else record.failure] += 1
            if record.failure is Failure.RATE_LIMITED:
                state.paused_until = self._loop.time() + PAUSE
            for sink in self.sinks:
                sink((record,))
        self._budgets.settle(copy.held, cost, None)
        agent = self._policy.agents.get(copy.agent.name.encode())
        if not state.in_flight and (agent is None or agent.shadow is None):
            self.agents.pop(copy.agent.name, None)

    def _give_way(self) -> None:
        """A request's body needs the room."""
        self._cut(BUSY)

    def _cut(self, reason: str) -> None:
        for copy in self._copies:
            self._let_go(copy)
            if copy.task is not None and copy.task.cancel():
                copy.cut = reason

    def _let_go(self, copy: Copy) -> None:
        self._buffered.total -= copy.lent
        self._buffered.lent -= copy.lent
        copy.lent = 0


def _record(copy: Copy, reply: Reply) -> Record:
    """The account of a copy that was answered, or not, by its upstream: no user, and nothing of the answer."""
    agent, failure = copy.agent, reply.failure
    target = agent.finetuned
    usage = used(reply, copy.size)
    cost = 0.0 if usage is None or target.price is None else target.price.of(usage)
    now = time.perf_counter()
    asked = now - copy.asked
    attempt = Attempt(
        target.upstream.name, target.model, reply.status, failure, copy.asked - copy.started, asked, usage, cost
    )
    return Record(
        request_id=new_id(copy.time),
        time=copy.time,
        route="shadow",
        agent=agent.name,
        decision=_DECISION,
        percentage=agent.percentage,
        salt=agent.salt,
        policy_hash=copy.policy_hash,
        served=target.model if reply.presentable else "",
        status=reply.status,
        failure=failure,
        fallback=None,
        attempts=(attempt,),
        latency=now - copy.started,
        blocked=asked,
        ttft=-1.0,
        usage=usage,
        cost=cost,
        response_id="",
        unit="",
        stream=False,
    )

"""Step 5 and 5': which target is called, how often, and when the baseline takes over.

Everything here happens before the commit point.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Collection
from collections.abc import Set as AbstractSet
from email.utils import parsedate_to_datetime
from random import uniform
from typing import Final

from proxy.exchange.brake import Brakes, BrakeState
from proxy.exchange.breaker import Breaker, RetryBudget
from proxy.exchange.call import CallState
from proxy.exchange.classify import BREAKING, RETRYABLE, judge
from proxy.exchange.reply import Reply
from proxy.exchange.request import request_head
from proxy.exchange.send import discard, send_fresh
from proxy.exchange.trace import traced
from proxy.policy.snapshot import AgentPolicy, FallbackPolicy, Target
from proxy.upstream.dialect import render
from proxy.upstream.pool import Pool, Pools
from proxy.words import Failure, Variant

log: Final = logging.getLogger("splitlane.exchange")

_BASELINE: Final = Variant.BASELINE

# Ends of a call that say nothing about the model: we had no room, no time, or nobody to answer.
_TELLS_NOTHING: Final = frozenset({Failure.OVERLOAD, Failure.TOTAL_TIMEOUT, Failure.CLIENT_GONE, Failure.SHUTDOWN})

# The back-off of a retry without `retry-after`, seconds.
BACKOFF: Final = 0.25


class Attempts:
    """Calls targets; owns what outlives a request: breakers, brakes and the retry budget."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pools: Pools) -> None:
        self._loop = loop
        self._pools = pools
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self.brakes = Brakes()
        self._retries = RetryBudget()

    def breaker(self, target: Target) -> Breaker:
        """The breaker of a model at an upstream; it survives reloads."""
        key = (target.upstream.name, target.model)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker()
        return breaker

    def keep(self, agents: Collection[AgentPolicy]) -> None:
        """These are the policy's agents from now on: breakers of other fine-tunes are forgotten."""
        current = {(agent.finetuned.upstream.name, agent.finetuned.model) for agent in agents}
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key in current}
        self.brakes.keep(agents)

    def answer(self, call: CallState) -> Awaitable[Reply]:
        """The reply that is to be committed: sound, or the last one there will be."""
        fallback = call.policy.fallback
        self._retries.deposit(fallback.retry_budget_ratio, fallback.retry_budget_min)
        agent = call.agent
        assert agent is not None
        if call.fallback is not None:  # a brake or a spent budget wants the baseline
            return self._target(call, agent.baseline, fallback.retry_baseline)
        if call.decision.variant is _BASELINE:
            call.brake = self.brakes.of(agent)
            return self._target(call, agent.baseline, fallback.retry_baseline)
        return self._with_fallback(call, agent, fallback)

    async def _with_fallback(self, call: CallState, agent: AgentPolicy, fallback: FallbackPolicy) -> Reply:
        if call.body is not None and agent.finetuned.upstream.dialect is not agent.baseline.upstream.dialect:
            call.body.members()  # a body that cannot be adapted is refused now, not at the fallback
        reply = await self._finetuned(call, agent)
        failure = reply.failure
        if failure is None or not fallback.enabled or failure not in fallback.on:
            return reply
        if self._loop.time() >= call.deadline:
            return reply
        call.bill()
        discard(reply)
        call.fallback = failure
        if call.reservation is not None:
            call.reservation.hold(agent.baseline.price, call.cost)
        if failure is not Failure.BREAKER_OPEN:  # its opening was told
            log.warning(
                "%s: %s failed (%s), %s answers", agent.name, agent.finetuned.model, failure, agent.baseline.model
            )
        rescued = await self._target(call, agent.baseline, fallback.retry_baseline)
        self.brakes.of(agent).rescued(rescued.failure, call.decision.bucket, self._loop.time(), call.policy.brake)
        return rescued

    async def _finetuned(self, call: CallState, agent: AgentPolicy) -> Reply:
        fallback, target = call.policy.fallback, agent.finetuned
        breaker = self.breaker(target)
        if fallback.enabled and not breaker.allow(self._loop.time()):
            return self._unsent(call, target, Failure.BREAKER_OPEN)
        call.brake = self.brakes.of(agent)
        call.breaker = breaker
        call.probe = breaker.is_open
        reply = await self._target(call, target, fallback.retry_finetuned)
        if reply.failure is not None or reply.ended:
            self.conclude(call, reply.failure)
        return reply

    def conclude(self, call: CallState, failure: Failure | None) -> None:
        """Tell brake and breaker how the call of its first target ended: for a stream, that is after the relay."""
        brake, call.brake = call.brake, None
        attempts = call.attempts
        if brake is not None and attempts:
            # Of several attempts the first has failed; of one, how it ended may be known since it was noted.
            self._weigh(call, brake, failure if len(attempts) == 1 else attempts[0].failure)
        breaker, call.breaker = call.breaker, None
        if breaker is None or (breaker.is_open and not call.probe):
            return  # a call from before the opening knows less than what opened the breaker
        was_open, policy = breaker.is_open, call.policy.fallback
        if failure in BREAKING:
            breaker.failed(self._loop.time(), policy.breaker)
        elif failure in _TELLS_NOTHING:
            breaker.abandoned()
        else:
            breaker.succeeded()
        if breaker.is_open is not was_open and call.agent is not None and policy.enabled:
            told = "is called again" if was_open else f"is not called, but for a try every {policy.breaker.open:g} s"
            log.warning("%s: %s %s", call.agent.name, call.agent.finetuned.model, told)

    def _weigh(self, call: CallState, brake: BrakeState, failure: Failure | None) -> None:
        """`failure` of the first attempt; None: it succeeded."""
        variant, bucket = call.decision.variant, call.decision.bucket
        if failure is None and variant is _BASELINE:
            brake.baseline_answered()
        elif failure is not None or brake.cusum.total:
            policy = call.policy.brake
            now = self._loop.time()
            if variant is _BASELINE:
                brake.baseline(failure, bucket, now, policy)
            elif brake.finetuned(failure, bucket, now, policy):
                self.brakes.trip(brake, call.request_id, now, policy)

    async def _target(self, call: CallState, target: Target, retries: int) -> Reply:
        """One call, and up to `retries` more to the same target."""
        loop = self._loop
        upstream = target.upstream
        pool = self._pools.of(upstream)
        request, usage_injected, adapted = _request(call, target)
        if adapted:
            call.adapted += (*adapted,)
        call.served = target.model
        call.target = target
        call.upstream = upstream.name
        while True:
            call.asked = time.perf_counter()
            now = loop.time()
            total = now + upstream.timeouts.total
            if call.deadline < total:
                total = call.deadline
            reply = call.reply = Reply(loop, upstream.timeouts, total)
            if call.stream:
                buffered = call.policy.limits.max_body if call.policy.fallback.buffer_stream else 0
                reply.expect_stream(strip_usage=usage_injected, buffer_up_to=buffered)
            connection = pool.take()
            if connection is not None:
                connection.send(request, reply, reply.begin(connection, now))
                request = b""  # many wait for answers, each with its client's body: not with a second one
                await reply.settled
            if connection is None or (reply.failure is Failure.RESET and reply.is_stale):
                await send_fresh(pool, request or _request(call, target)[0], reply, total, loop, call.agent_name)
            failure = reply.failure
            if failure is None:
                failure = reply.failure = judge_held(reply)
            call.concluded(reply.status, failure)
            if failure not in RETRYABLE or not retries:
                return reply
            retries -= 1
            wait = self._may_retry(call, reply)
            if wait is None:
                return reply
            call.bill()
            discard(reply)
            await asyncio.sleep(wait)
            request, _, _ = _request(call, target)

    def _may_retry(self, call: CallState, reply: Reply) -> float | None:
        """Seconds to wait before the same target is asked again; None where it is not."""
        fallback = call.policy.fallback
        wait = retry_after(reply, time.time())
        if wait is None:
            # The second call waits one back-off, the third two, each halved by up to half.
            wait = BACKOFF * len(call.attempts) * uniform(0.5, 1.0)
        now = self._loop.time()
        if wait > fallback.max_wait or now + wait >= call.deadline:
            return None
        return wait if self._retries.withdraw(now, fallback.retry_budget_min) else None

    def _unsent(self, call: CallState, target: Target, failure: Failure) -> Reply:
        reply = Reply(self._loop, target.upstream.timeouts, call.deadline)
        reply.failure = failure
        return reply


def _request(call: CallState, target: Target) -> tuple[bytes, bool, AbstractSet[str]]:
    """The request as `target` gets it; whether its stream brings usage the client did not ask for; fields adapted."""
    agent, body = call.agent, call.body
    assert agent is not None
    assert body is not None
    new_body, usage_injected, adapted = render(body, target, agent.defaults, stream=call.stream)
    framing = b"Content-Length: %d\r\n" % len(new_body)
    # Answers are read on their way, so no encoding is asked for that we could not read.
    head = request_head(call.client.method, call.path, call.headers, target.upstream, framing, b"identity")
    if call.trace is not None:
        head = traced(call, head)
    return head + new_body, usage_injected, adapted


def judge_held(reply: Reply) -> Failure | None:
    """What the answer means, where no failure in transit has told already."""
    if reply.is_stream:
        # Neither content nor an error in all that was held: pings, or nothing.
        return None if reply.content_events else Failure.BAD_BODY
    failure, reply.answer = judge(reply.status, reply.held, complete=reply.ended)
    if failure is not None and (plain := reply.decoded()) is not None:
        failure, reply.answer = judge(reply.status, plain, complete=reply.ended)
    return failure


async def ask_aside(pool: Pool, request: bytes, reply: Reply, total: float, loop: asyncio.AbstractEventLoop) -> None:
    """Send what no client has asked for, once, and judge the answer; `total` is the loop time to give up at."""
    connection = pool.take()
    if connection is not None:
        connection.send(request, reply, reply.begin(connection, loop.time()))
        await reply.settled
    if connection is None or reply.is_stale:
        await send_fresh(pool, request, reply, total, loop)
    if reply.failure is None:
        reply.failure = judge_held(reply)


def retry_after(reply: Reply, now: float) -> float | None:
    """Seconds the upstream asks to wait; None where it does not say.  `now` is Unix time."""
    milliseconds = reply.field(b"retry-after-ms")
    value = (milliseconds or reply.field(b"retry-after")).decode("latin-1")
    if not value:
        return None
    try:
        seconds = float(value) / 1000 if milliseconds else float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds)

"""The request path: one function, eight numbered steps."""

import asyncio
import logging
import time
from random import random
from typing import Final

from proxy.budget.budgets import Budgets, BudgetSpent
from proxy.exchange.attempts import Attempts
from proxy.exchange.call import CallState, Refusal, Units, date_field
from proxy.exchange.classify import judge
from proxy.exchange.client import Client
from proxy.exchange.crowd import Crowd
from proxy.exchange.feedback import take_feedback
from proxy.exchange.intake import Buffered, read_body, whole_body
from proxy.exchange.passthrough import pass_through
from proxy.exchange.reply import Reply
from proxy.exchange.shadow import Shadow
from proxy.exchange.trace import begin_trace
from proxy.ledger import FeedbackSink, Sink
from proxy.outbox import Outbox
from proxy.policy.snapshot import AgentPolicy, IdentityPolicy, Policy
from proxy.split.assign import UNASSIGNED, assign, override
from proxy.split.identity import AGENT_PATH, for_strangers, identify_agent, identify_user, split_agent_path
from proxy.upstream.pool import Pools
from proxy.watchdog import NEVER
from proxy.wire.body import Body, BodyError
from proxy.wire.errors import ErrorAnswer, bad_request, failure_answer
from proxy.wire.headers import RequestSorter, is_host, response_block
from proxy.words import Decision, Failure, Record, Variant

log: Final = logging.getLogger("splitlane.exchange")

# Records go to the sinks this many at a time, and whenever `flush` is called: in one go they cost half.
SETTLE_AT_ONCE: Final = 32

CHAT: Final = b"/v1/chat/completions"
FEEDBACK: Final = b"/v1/feedback"

_INTERNAL: Final = ErrorAnswer(500, "server_error", "internal", "the proxy failed; its log says why")
_HOST: Final = bad_request("the request needs exactly one Host field, and a host in it")
_CODING: Final = bad_request("the only transfer coding supported is `chunked`")


class Exchange:
    """Serves requests; owns what outlives them: pools, breakers, brakes, counters of what is in flight."""

    def __init__(
        self, policy: Policy, sinks: tuple[Sink, ...], loop: asyncio.AbstractEventLoop, outbox: Outbox
    ) -> None:
        self.policy = policy  # the active one; a request takes it once
        self.strangers = for_strangers(policy)  # … and what it is for peers whose word is not taken
        self.pools = Pools(loop, outbox)
        self.pools.keep(policy.upstreams.values())
        self.attempts = Attempts(loop, self.pools)
        self.budgets = Budgets()
        self.buffered = Buffered()
        self.shadow = Shadow(policy, loop, outbox, self.budgets, self.buffered)
        self.in_flight = 0
        self.crowd = Crowd(policy.limits)
        self._sorter_policy: IdentityPolicy | None = None
        self._sorter = RequestSorter(frozenset(), forward=False)
        self._host: bytes | None = None  # of the last request, and found sound
        self._strangers_identity: IdentityPolicy | None = None
        self._strangers_sorter = self._sorter
        self._settled: list[Record] = []
        self.sinks = sinks  # who gets the records
        self.feedback: FeedbackSink | None = None  # None: there is no store
        self.units = Units(b"")  # of the users in records
        self.trace_share: float | None = None  # of the requests whose caller does not decide; None: tracing is off
        self._loop = loop

    async def handle(self, client: Client, policy: Policy | None = None) -> None:
        """Serve one request, from its head to its record.

        orchestrator ──► listener ──► handle ─────────────────────────────────► ledger ──► metrics
                                      1 read     head and whole body, within the limits
                                      2 identify agent and user                 (policy taken here, once)
                                      3 assign   variant = hash(agent, user)    pure; never looks at health
                                      4 admit    in-flight limit, budget reservation
                                      5 attempt  finetuned or baseline upstream ⇄ 5' fallback: only before 6
                                      6 COMMIT   first content reaches the client
                                      7 relay    bytes through, usage observed  after 6: never switch model
                                      8 settle   one record, always, exactly once
        """
        call = CallState(self.policy if policy is None else policy, client)
        try:
            split = self._read_head(call)
            if split:
                whole = whole_body(call, self.buffered)
                call.body = Body(await read_body(call, self.buffered) if whole is None else whole)  # 1
            elif call.route == "feedback":
                await take_feedback(call, self.buffered, self.feedback)
                return
            self._identify_and_assign(call)  # 2, 3
            self._admit(call)  # 4
            if split and call.agent is not None:
                reply = await self.attempts.answer(call)  # 5, 5'
            else:
                reply = await pass_through(call, self.pools, self._loop)
                if reply.failure is None and reply.status >= 400:
                    reply.failure, _ = judge(reply.status, b"")
            await self._commit_and_relay(call, reply)  # 6, 7
        except Refusal as refusal:
            client.crowded_out = refusal.failure is Failure.OVERLOAD
            _answer(call, refusal.answer, refusal.failure)
        except BudgetSpent as spent:
            _answer(call, spent.answer, Failure.BUDGET)
        except BodyError as error:
            _answer(call, bad_request(str(error)), Failure.BAD_REQUEST)
        except asyncio.CancelledError:
            if client.stopping:
                _answer(call, failure_answer(Failure.SHUTDOWN), Failure.SHUTDOWN)
            else:
                call.status = 499
                call.failure = Failure.CLIENT_GONE
            raise
        except Exception:
            log.exception("request %s failed inside the proxy", call.request_id)
            _answer(call, _INTERNAL, Failure.SERVER_ERROR)
        finally:
            self._settle(call)  # 8

    async def handle_stranger(self, client: Client) -> None:
        """Serve one request of a peer that is not in `identity.trusted`."""
        await self.handle(client, self.strangers)

    def adopt(self, policy: Policy) -> None:
        """Serve what comes from now on by `policy`; requests in flight keep theirs."""
        self.policy = policy
        self.strangers = for_strangers(policy)
        self.pools.keep(policy.upstreams.values())
        self.attempts.keep(policy.agents.values())
        self.shadow.keep(policy)
        self.budgets.keep({agent.name for agent in policy.agents.values()})
        self.crowd.follow(policy.limits)

    def refuse(self, client: Client, answer: ErrorAnswer) -> None:
        """Answer, and settle, what the listener could not make a request of."""
        call = CallState(self.policy, client)
        _answer(call, answer, Failure.BAD_REQUEST)
        self._settle(call)

    def _read_head(self, call: CallState) -> bool:
        """Sort the fields and find the route; True for the one that is split."""
        client, identity = call.client, call.policy.identity
        call.headers = headers = self._sorter_of(identity).sort(client.fields)
        client.fields = ()
        if (share := self.trace_share) is not None:
            call.trace = begin_trace(headers, client.method, share)
        if headers.hosts != 1 and not (headers.hosts == 0 and client.http_10):
            log.warning("refused a request without exactly one Host")
            raise Refusal(_HOST, Failure.BAD_REQUEST)
        host = headers.read.get(b"host")
        if host != self._host:  # clients that are well name one host, always
            if host is not None and not is_host(host):
                log.warning("refused a request whose Host is none")
                raise Refusal(_HOST, Failure.BAD_REQUEST)
            self._host = host
        coding = headers.read.get(b"transfer-encoding")
        if coding is not None and (coding.strip().lower() != b"chunked" or client.http_10):
            # Where such a body ends is a matter of opinion: nothing behind it is read.
            client.keep = False
            log.warning("refused a request with a transfer coding other than `chunked`, or in HTTP/1.0")
            raise Refusal(_CODING, Failure.BAD_REQUEST)
        path = client.target
        if path == CHAT and client.method == b"POST":
            call.route = "chat"
            return True
        if path.startswith(AGENT_PATH):
            call.path_agent, path = split_agent_path(path)
            call.path = path
        if client.method == b"POST":
            bare = path.partition(b"?")[0]
            if bare == CHAT:
                call.route = "chat"
                return True
            if bare == FEEDBACK:
                call.route = "feedback"
                return False
        call.route = "passthrough"
        return False

    def _sorter_of(self, identity: IdentityPolicy) -> RequestSorter:
        if identity is self._sorter_policy:
            return self._sorter
        if identity is self._strangers_identity:
            return self._strangers_sorter
        sorter = RequestSorter(identity.headers, forward=identity.forward)
        if identity is self.strangers.identity and identity is not self.policy.identity:
            self._strangers_identity, self._strangers_sorter = identity, sorter
        else:
            self._sorter_policy, self._sorter = identity, sorter
        return sorter

    def _identify_and_assign(self, call: CallState) -> None:
        policy, read, body = call.policy, call.headers.read, call.body
        name = identify_agent(policy.identity, read, call.path_agent, body, policy.agents)
        agent = policy.agents.get(name) if name is not None else None
        total = policy.default_upstream.timeouts.total
        if agent is not None:
            call.agent = agent
            call.agent_name = agent.name
            call.decision = self._decide(call, agent)
            total = agent.total
        if body is not None:
            call.stream = body.stream
        if (patience := read.get(b"x-stainless-read-timeout")) is not None:
            total = min(total, _seconds(patience))
        call.deadline = self._loop.time() + total

    def _decide(self, call: CallState, agent: AgentPolicy) -> Decision:
        identity, read = call.policy.identity, call.headers.read
        if identity.allow_override and (requested := read.get(b"x-splitlane-variant")):
            forced = override(requested)
            if forced is None:
                raise Refusal(bad_request("x-splitlane-variant must be `baseline` or `finetuned`"), Failure.BAD_REQUEST)
            return forced
        call.user = user = identify_user(identity, read, call.body)
        decision = assign(agent, user)
        if decision is UNASSIGNED and identity.on_missing_user != "baseline" and call.route == "chat":
            if identity.on_missing_user == "reject":
                raise Refusal(
                    bad_request("the request names no user, and the policy asks for one", "missing_user"),
                    Failure.BAD_REQUEST,
                )
            if random() * 100 < agent.percentage:
                return Decision(Variant.FINETUNED, decision.assignment, decision.bucket)
        return decision

    def _admit(self, call: CallState) -> None:
        if self.in_flight >= self.crowd.begins:
            self.crowd.admit(call, self.in_flight)
        self.in_flight += 1
        call.admitted = True
        agent, body = call.agent, call.body
        if agent is None or body is None:
            return
        finetuned = call.decision.variant is Variant.FINETUNED
        if finetuned and agent.name in self.attempts.brakes.tripped:
            call.fallback = Failure.BRAKE
            finetuned = False
        if agent.budgeted:
            call.reservation = held = self.budgets.admit(call.policy, agent, body, call.time, finetuned=finetuned)
            if held.to_baseline:
                call.fallback = Failure.BUDGET

    async def _commit_and_relay(self, call: CallState, reply: Reply) -> None:
        """Answer with `reply`: all of it, or its beginning now and the rest as it comes."""
        call.failure = reply.failure
        if not reply.presentable:
            failure = reply.failure or Failure.RESET
            call.served = ""  # no model answered; the attempts say who was asked
            raise Refusal(failure_answer(failure), failure)
        client = call.client
        call.status = reply.status
        if reply.is_stream:
            call.ttft = call.elapsed()
        fields = response_block(reply.head) + call.added_fields()
        if reply.ended and reply.failure is not Failure.STREAM_ERROR:
            if client.method == b"HEAD" and (length := reply.field(b"content-length")):
                fields += b"Content-Length: %b\r\n" % length
            client.respond(reply.status, fields, reply.held)
            return
        length = b"" if reply.is_stream else reply.field(b"content-length")
        client.start_stream(reply.status, fields, int(length) if length else None)
        total = call.deadline
        if reply.is_stream or call.route == "passthrough":
            total = self._loop.time() - call.elapsed() + reply.timeouts.stream
        relayed = time.perf_counter()
        try:
            await reply.relay_to(client, self._loop, total)
            call.failure = reply.failure
        finally:
            # The attempt lasted to the end of the relay, whoever ended it, and may have failed there.
            relayed = time.perf_counter() - relayed
            call.blocked += relayed
            attempt = call.attempts[-1]
            attempt.failure = reply.failure
            attempt.seconds += relayed

    def _settle(self, call: CallState) -> None:
        reply = call.reply
        if reply is not None and not reply.ended and reply.connection is not None:
            reply.connection.abort()
        if call.asked:  # cut off while it waited
            call.concluded(0 if reply is None else reply.status, call.failure)
        call.bill()
        if call.brake is not None or call.breaker is not None:
            self.attempts.conclude(call, call.failure)
        if call.reservation is not None:
            usage = call.attempts[-1].usage if call.failure is None and call.attempts else None
            self.budgets.settle(call.reservation, call.cost, usage)
            call.reservation = None
        self.buffered.total -= call.buffered
        if call.admitted:
            self.in_flight -= 1
            if call.crowding:
                self.crowd.left(call)
        if (agent := call.agent) is not None and agent.shadow is not None:
            self.shadow.offer(call, agent, agent.shadow, self.in_flight)
        call.latency = time.perf_counter() - call.started
        settled = self._settled
        settled.append(call.record(self.units))
        if len(settled) >= SETTLE_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand the records of settled requests to the sinks."""
        records, self._settled = self._settled, []
        if records:
            for sink in self.sinks:
                sink(records)


def _seconds(value: bytes) -> float:
    """A positive number of seconds; without bound where it is none."""
    try:
        seconds = float(value)
    except ValueError:
        return NEVER
    return seconds if seconds > 0 else NEVER


def _answer(call: CallState, answer: ErrorAnswer, failure: Failure) -> None:
    """Answer with an error of ours; where the response has begun, break it off visibly."""
    call.failure = failure
    if call.client.started:
        if call.reply is not None and call.reply.is_stream:
            call.client.write(answer.event())
        call.client.abort()
        return
    call.status = answer.status
    call.client.respond(answer.status, answer.fields() + date_field() + call.added_fields(), answer.body())

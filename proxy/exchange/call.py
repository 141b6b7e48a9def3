"""One request's mutable state, from its head to its record."""

import time
from email.utils import formatdate
from hashlib import blake2b
from typing import Final

from proxy.budget.reservation import Reservation
from proxy.exchange.brake import BrakeState
from proxy.exchange.breaker import Breaker
from proxy.exchange.client import Client
from proxy.exchange.reply import Reply
from proxy.ids import new_id
from proxy.policy.snapshot import AgentPolicy, Policy, Target
from proxy.split.assign import UNASSIGNED
from proxy.wire.body import Body
from proxy.wire.errors import ErrorAnswer
from proxy.wire.headers import NO_HEADERS, RequestHeaders
from proxy.wire.usage import BYTES_PER_TOKEN
from proxy.words import Attempt, Decision, Failure, Record, Trace, Usage

# Agents outside the policy share one name, so that metrics stay bounded.
OTHER: Final = "other"
_UNITS_KEPT: Final = 4096


class Refusal(Exception):  # noqa: N818 it is an answer, not an error
    """We answer the request ourselves."""

    def __init__(self, answer: ErrorAnswer, failure: Failure) -> None:
        super().__init__(answer.message)
        self.answer = answer
        self.failure = failure


def date_field() -> bytes:
    """The `Date` of an answer of ours: RFC 9110 §6.6.1.  An upstream's answer keeps its own."""
    return b"Date: %b\r\n" % formatdate(usegmt=True).encode()


class Units:
    """Who it is, to nobody without the key: users' keyed hashes.  The same users come again and again."""

    __slots__ = ("_key", "_known")

    def __init__(self, key: bytes) -> None:
        """`key`: empty, nobody wants to know."""
        self._key = key
        self._known: dict[bytes, str] = {}

    def of(self, user: bytes) -> str:
        """32 hexadecimal digits; empty without a key."""
        if not self._key:
            return ""
        unit = self._known.get(user)
        if unit is None:
            if len(self._known) >= _UNITS_KEPT:
                self._known.clear()
            unit = self._known[user] = blake2b(user, key=self._key, digest_size=16).hexdigest()
        return unit


class CallState:
    """What is known of one request so far.

    What most requests never change stands on the class: an instance is cheap to make.
    """

    route = "refused"
    path_agent: bytes | None = None  # of `/agents/NAME/v1/…`
    headers: RequestHeaders = NO_HEADERS
    body: Body | None = None
    buffered = 0  # bytes of `max_buffered` it holds
    admitted = False
    crowding = False  # … when there was a crowd
    agent: AgentPolicy | None = None
    agent_name = OTHER
    user: bytes | None = None  # exactly as received; never recorded
    decision: Decision = UNASSIGNED
    deadline = 0.0  # loop time by which an answer must be complete, or a stream committed
    stream = False
    reservation: Reservation | None = None  # until it settles; None: no budget holds for it
    breaker: Breaker | None = None  # of the fine-tune, while its outcome is open
    brake: BrakeState | None = None  # of the agent, while its first attempt's outcome is open
    probe = False  # the one call that an open breaker lets through
    reply: Reply | None = None  # the latest
    target: Target | None = None  # who is asked, or was last; None: nobody, or pass-through
    upstream = ""  # whose
    asked = 0.0  # when the attempt that is still out began; 0: none is
    span = ""  # of the attempt that is out, or was last
    trace: Trace | None = None  # None: the request is not traced
    cost = 0.0  # US dollars so far
    adapted: tuple[str, ...] = ()  # fields renamed or dropped for a dialect
    fallback: Failure | None = None
    failure: Failure | None = None
    status = 0
    served = ""
    blocked = 0.0
    ttft = -1.0
    latency = 0.0

    def __init__(self, policy: Policy, client: Client) -> None:
        self.policy = policy
        self.client = client
        self.started = time.perf_counter()
        self.time = time.time()
        self.request_id = new_id(self.time)
        self.path = client.target
        self.attempts: list[Attempt] = []

    def elapsed(self) -> float:
        """Seconds since the request's head."""
        return time.perf_counter() - self.started

    def concluded(self, status: int, failure: Failure | None) -> None:
        """The attempt that is out is over, or as good as: it will be committed to."""
        asked = self.asked
        self.asked = 0.0
        seconds = time.perf_counter() - asked
        self.blocked += seconds
        target = self.target
        model = "" if target is None else target.model
        self.attempts.append(
            Attempt(self.upstream, model, status, failure, asked - self.started, seconds, None, 0.0, self.span)
        )

    def bill(self) -> None:
        """What the latest attempt used, and what that costs, now that no more of it will come."""
        reply, target, attempts = self.reply, self.target, self.attempts
        if reply is None or target is None or not attempts:
            return
        last = attempts[-1]
        if last.usage is not None:
            return
        usage = used(reply, 0 if self.body is None else len(self.body.raw))
        if usage is None:
            return
        cost = 0.0 if target.price is None else target.price.of(usage)
        self.cost += cost
        last.usage = usage
        last.cost = cost

    def added_fields(self) -> bytes:
        """Our own response headers, as known now."""
        key = (
            self.policy.hash,
            self.agent_name,
            self.decision.variant,
            self.served,
            len(self.attempts),
            self.fallback,
        )
        fields = _added.get(key)
        if fields is None:
            fields = _added_fields(*key)
            if len(_added) >= _ADDED_KEPT:
                _added.clear()  # full of policies that are no more, or of what will come again
            _added[key] = fields
        return b"x-splitlane-request-id: %b\r\n%b" % (self.request_id.encode(), fields)

    def record(self, units: Units) -> Record:
        """The settled request's frozen account."""
        agent, reply, user = self.agent, self.reply, self.user
        percentage, salt = (0.0, "") if agent is None else (agent.percentage, agent.salt)
        return Record(
            self.request_id,
            self.time,
            self.route,
            self.agent_name,
            self.decision,
            percentage,
            salt,
            self.policy.hash,
            self.served,
            self.status,
            self.failure,
            self.fallback,
            tuple(self.attempts),
            self.latency,
            self.blocked,
            self.ttft,
            _sum(self.attempts),
            self.cost,
            "" if reply is None else reply.response_id,
            units.of(user) if user else "",
            self.stream,
            self.adapted,
            self.trace,
        )


def used(reply: Reply, size: int) -> Usage | None:
    """The tokens that a request of `size` bytes used; None where nothing was billed, as far as anybody knows.

    An answer without usage has been billed all the same: about four bytes a token.
    """
    usage = reply.usage
    if usage is not None and not usage.estimated:
        return usage
    if usage is None and (reply.answer is None or reply.failure is not None):
        return None
    completion = len(reply.held) // BYTES_PER_TOKEN if usage is None else usage.completion
    return Usage(size // BYTES_PER_TOKEN, completion, estimated=True)


def _sum(attempts: list[Attempt]) -> Usage | None:
    total = None
    for attempt in attempts:
        usage = attempt.usage
        if usage is not None:
            total = usage if total is None else total.plus(usage)
    return total


# Apart from the request's id, the same few answers to "who served this" come again and again.
_added: Final[dict[tuple[str, str, str, str, int, Failure | None], bytes]] = {}
_ADDED_KEPT: Final = 4096


def _added_fields(policy: str, agent: str, variant: str, served: str, attempts: int, fallback: Failure | None) -> bytes:
    fields = (
        f"x-splitlane-agent: {agent}\r\nx-splitlane-variant: {variant}\r\n"
        f"x-splitlane-attempts: {attempts}\r\nx-splitlane-policy: {policy}\r\n"
    )
    if served:
        fields += f"x-splitlane-served: {served}\r\n"
    if fallback is not None:
        fields += f"x-splitlane-fallback: {fallback}\r\n"
    return fields.encode()

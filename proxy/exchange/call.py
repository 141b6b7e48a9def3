"""One request's mutable state, from its head to its record."""

import time
from random import getrandbits

from proxy.exchange.breaker import Breaker
from proxy.exchange.client import Client
from proxy.exchange.reply import Reply
from proxy.policy.snapshot import AgentPolicy, Policy
from proxy.split.assign import UNASSIGNED
from proxy.wire.body import Body
from proxy.wire.errors import ErrorAnswer
from proxy.wire.headers import NO_HEADERS, RequestHeaders
from proxy.words import Attempt, Decision, Failure, Record

# Agents outside the policy share one name, so that metrics stay bounded.
OTHER = "other"


class Refusal(Exception):  # noqa: N818 it is an answer, not an error
    """We answer the request ourselves."""

    def __init__(self, answer: ErrorAnswer, failure: Failure) -> None:
        super().__init__(answer.message)
        self.answer = answer
        self.failure = failure


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
    agent: AgentPolicy | None = None
    agent_name = OTHER
    decision: Decision = UNASSIGNED
    deadline = 0.0  # loop time by which an answer must be complete, or a stream committed
    stream = False
    breaker: Breaker | None = None  # of the fine-tune, while its outcome is open
    probe = False  # the one call that an open breaker lets through
    reply: Reply | None = None  # the latest
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
        self.request_id = _ids.new(self.time)
        self.path = client.target
        self.attempts: list[tuple[str, str, int, Failure | None, float]] = []  # `Attempt`s to be

    def elapsed(self) -> float:
        """Seconds since the request's head."""
        return time.perf_counter() - self.started

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

    def record(self) -> Record:
        """The settled request's frozen account."""
        agent, reply = self.agent, self.reply
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
            tuple([Attempt(*attempt) for attempt in self.attempts]),
            self.latency,
            self.blocked,
            self.ttft,
            None if reply is None else reply.usage,
            self.stream,
            self.adapted,
        )


# Apart from the request's id, the same few answers to "who served this" come again and again.
_added: dict[tuple[str, str, str, str, int, Failure | None], bytes] = {}
_ADDED_KEPT = 4096


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


class RequestIds:
    """UUIDv7 (RFC 9562 §5.7): sortable by time, random within a millisecond.

    What ids of one millisecond share is written once: its time and 26 of the 74 random bits.
    """

    def __init__(self) -> None:
        self._millisecond = 0
        self._stamp = ""

    def new(self, now: float) -> str:
        """An id for Unix time `now`, seconds."""
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            stamp = f"{millisecond:012x}"
            self._stamp = f"{stamp[:8]}-{stamp[8:]}-7{getrandbits(12):03x}-{0x8000 | getrandbits(14):04x}-"
        return f"{self._stamp}{getrandbits(48):012x}"


_ids = RequestIds()

"""One request's mutable state, from its head to its record."""

import time
from random import getrandbits
from typing import NamedTuple

from proxy.exchange.breaker import Breaker
from proxy.exchange.client import Client
from proxy.exchange.reply import Reply
from proxy.policy.snapshot import AgentPolicy, Policy, Target
from proxy.split.assign import UNASSIGNED
from proxy.upstream.dialect import Rendered
from proxy.wire.body import Body
from proxy.wire.errors import ErrorAnswer
from proxy.wire.headers import RequestHeaders
from proxy.words import Attempt, Decision, Failure, Record, Usage

# Agents outside the policy share one name, so that metrics stay bounded.
OTHER = "other"


class Refusal(Exception):
    """We answer the request ourselves."""

    def __init__(self, answer: ErrorAnswer, failure: Failure) -> None:
        super().__init__(answer.message)
        self.answer = answer
        self.failure = failure


class Prepared(NamedTuple):
    """The request as one target gets it; kept for that target's retries."""

    target: Target
    rendered: Rendered
    request: bytes


class CallState:
    """What is known of one request so far."""

    __slots__ = (
        "admitted", "agent", "agent_name", "attempts", "blocked", "body", "breaker", "buffered", "client", "deadline", "decision", "failure",
        "fallback", "headers", "path", "policy", "prepared", "reply", "request_id", "route", "served", "started", "status",
        "stream", "time", "ttft", "usage",
    )  # fmt: skip

    def __init__(self, policy: Policy, client: Client) -> None:
        self.policy = policy
        self.client = client
        self.started = time.perf_counter()
        self.time = time.time()
        self.request_id = uuid7(self.time)
        self.route = "refused"
        self.path = client.target
        self.headers = RequestHeaders([], {}, 0)
        self.body: Body | None = None
        self.buffered = 0  # bytes of `max_buffered` it holds
        self.admitted = False
        self.agent: AgentPolicy | None = None
        self.agent_name = OTHER
        self.decision: Decision = UNASSIGNED
        self.deadline = 0.0  # loop time by which an answer must be complete, or a stream committed
        self.stream = False
        self.prepared: Prepared | None = None
        self.breaker: Breaker | None = None  # of the fine-tune, while its outcome is open
        self.reply: Reply | None = None  # the committed one
        self.attempts: list[Attempt] = []
        self.fallback: Failure | None = None
        self.failure: Failure | None = None
        self.status = 0
        self.served = ""
        self.usage: Usage | None = None
        self.blocked = 0.0
        self.ttft = -1.0

    def elapsed(self) -> float:
        """Seconds since the request's head."""
        return time.perf_counter() - self.started

    def added_fields(self) -> list[tuple[bytes, bytes]]:
        """Our own response headers, as known now."""
        fields = [
            (b"x-splitlane-request-id", self.request_id.encode()),
            (b"x-splitlane-agent", self.agent_name.encode()),
            (b"x-splitlane-variant", self.decision.variant.encode()),
            (b"x-splitlane-served", self.served.encode()),
            (b"x-splitlane-attempts", b"%d" % len(self.attempts)),
            (b"x-splitlane-policy", self.policy.hash.encode()),
        ]
        if self.fallback is not None:
            fields.append((b"x-splitlane-fallback", self.fallback.encode()))
        return fields

    def record(self) -> Record:
        """The request's frozen account."""
        agent = self.agent
        return Record(
            self.request_id,
            self.time,
            self.route,
            self.agent_name,
            self.decision,
            agent.percentage if agent is not None else 0.0,
            agent.salt if agent is not None else "",
            self.policy.hash,
            self.served,
            self.status,
            self.failure,
            self.fallback,
            tuple(self.attempts),
            time.perf_counter() - self.started,
            self.blocked,
            self.ttft,
            self.usage,
            self.stream,
        )


def uuid7(now: float) -> str:
    """A UUIDv7 (RFC 9562 §5.7) of a Unix time in seconds: sortable by time, 74 random bits."""
    value = (int(now * 1000) & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | getrandbits(12) << 64 | 0b10 << 62 | getrandbits(62)
    digits = "%032x" % value
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

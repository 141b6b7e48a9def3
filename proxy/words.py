"""Small types every stage may import, frozen once they are made; this module imports no other stage.

What every request makes has its `__init__` written out: compiled, that takes a seventh of the time of a
NamedTuple's or a generated one.  (An attempt is frozen once it is billed: when no more of its answer will come.)

`Failure` is the closed vocabulary of DESIGN §3.5: headers, metrics, records and runbooks
use these words and no others.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class Failure(StrEnum):
    """Why an attempt, or a whole request, did not succeed."""

    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    FIRST_CONTENT_TIMEOUT = "first_content_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    RESET = "reset"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    MODEL_GONE = "model_gone"
    AUTH = "auth"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    BAD_REQUEST = "bad_request"
    BAD_BODY = "bad_body"
    EMPTY = "empty"
    STREAM_ERROR = "stream_error"
    STREAM_TRUNCATED = "stream_truncated"
    BREAKER_OPEN = "breaker_open"
    BRAKE = "brake"
    BUDGET = "budget"
    OVERLOAD = "overload"
    CLIENT_GONE = "client_gone"
    SHUTDOWN = "shutdown"


class Variant(StrEnum):
    """The two arms of the experiment."""

    BASELINE = "baseline"
    FINETUNED = "finetuned"


class Assignment(StrEnum):
    """How a request came to its variant; only the first two take part in comparisons."""

    FINETUNED = "finetuned"
    BASELINE = "baseline"
    UNASSIGNED = "unassigned"
    OVERRIDE = "override"
    SHADOW = "shadow"  # a copy of a baseline request, whose answer nobody got


class Dialect(StrEnum):
    """Which request fields an upstream accepts."""

    OPENAI = "openai"
    MISTRAL = "mistral"


# Behind an agent's name: its shadow, where money is counted.  No name has a slash.
OF_SHADOW: Final = "/shadow"


@dataclass(init=False)
class Decision:
    """The split's answer for one request; a pure function of policy, agent and user."""

    variant: Variant
    assignment: Assignment
    bucket: int  # 0 … 9999, or -1 where no user was hashed

    def __init__(
        self,
        variant: Variant,
        assignment: Assignment,
        bucket: int,
    ) -> None:
        self.variant = variant
        self.assignment = assignment
        self.bucket = bucket


@dataclass(init=False)
class Usage:
    """Tokens of one answer."""

    prompt: int
    completion: int
    cached: int
    reasoning: int
    estimated: bool  # True: counted by us, because the upstream never said

    def __init__(
        self,
        prompt: int,
        completion: int,
        cached: int = 0,
        reasoning: int = 0,
        estimated: bool = False,
    ) -> None:
        self.prompt = prompt
        self.completion = completion
        self.cached = cached
        self.reasoning = reasoning
        self.estimated = estimated

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            self.estimated or other.estimated,
        )


class Trace(NamedTuple):
    """A traced request's place in its trace; ids as W3C Trace Context writes them: lower-case hex."""

    trace_id: str  # 32 digits
    parent: str  # the caller's span, 16 digits; empty: the trace begins with us
    span: str  # our SERVER span
    flags: int
    method: str  # the request's


@dataclass(init=False)
class Attempt:
    """One call to one upstream; a resend on a stale pooled connection is part of it."""

    upstream: str
    model: str  # empty on pass-through routes
    status: int  # 0: no response head arrived
    failure: Failure | None
    started: float  # seconds after the request's head
    seconds: float
    usage: Usage | None  # None: nothing was billed, or nobody knows
    cost: float  # US dollars, at the model's own price; 0 where the policy names none
    span: str  # the CLIENT span that the upstream was told; empty: the request is not traced

    def __init__(
        self,
        upstream: str,
        model: str,
        status: int,
        failure: Failure | None,
        started: float,
        seconds: float,
        usage: Usage | None,
        cost: float,
        span: str = "",
    ) -> None:
        self.upstream = upstream
        self.model = model
        self.status = status
        self.failure = failure
        self.started = started
        self.seconds = seconds
        self.usage = usage
        self.cost = cost
        self.span = span


@dataclass(init=False)
class Record:
    """What happened to one request: made once, at the end, for every request."""

    request_id: str
    time: float  # Unix seconds at the request's head
    route: str  # chat | passthrough | feedback | refused | shadow
    agent: str
    decision: Decision
    percentage: float
    salt: str
    policy_hash: str
    served: str  # the model that answered; empty: none did
    status: int  # the HTTP status the client saw; 499: it had left
    failure: Failure | None  # None: success
    fallback: Failure | None  # why the fine-tune was left, where it was
    attempts: tuple[Attempt, ...]
    latency: float  # seconds, head read to last byte written
    blocked: float  # seconds of it spent waiting for an upstream
    ttft: float  # seconds to the first content of a stream; -1: an answer in one piece, or none
    usage: Usage | None  # of all attempts
    cost: float  # US dollars, of all attempts
    response_id: str  # the upstream's name for its answer, cleaned; empty: it gave none
    unit: str  # the user's keyed hash, hex; empty: no user, or no store
    stream: bool
    adapted: tuple[str, ...]  # request fields renamed or dropped for an upstream's dialect
    trace: Trace | None  # None: the request is not traced

    def __init__(
        self,
        request_id: str,
        time: float,
        route: str,
        agent: str,
        decision: Decision,
        percentage: float,
        salt: str,
        policy_hash: str,
        served: str,
        status: int,
        failure: Failure | None,
        fallback: Failure | None,
        attempts: tuple[Attempt, ...],
        latency: float,
        blocked: float,
        ttft: float,
        usage: Usage | None,
        cost: float,
        response_id: str,
        unit: str,
        stream: bool,
        adapted: tuple[str, ...] = (),
        trace: Trace | None = None,
    ) -> None:
        self.request_id = request_id
        self.time = time
        self.route = route
        self.agent = agent
        self.decision = decision
        self.percentage = percentage
        self.salt = salt
        self.policy_hash = policy_hash
        self.served = served
        self.status = status
        self.failure = failure
        self.fallback = fallback
        self.attempts = attempts
        self.latency = latency
        self.blocked = blocked
        self.ttft = ttft
        self.usage = usage
        self.cost = cost
        self.response_id = response_id
        self.unit = unit
        self.stream = stream
        self.adapted = adapted
        self.trace = trace


class Feedback(NamedTuple):
    """What a client says of an earlier answer."""

    id: str  # the same id counts once
    request_id: str  # ours; empty: the answer is named by its response id
    response_id: str  # the upstream's; empty: the request is named by ours
    score: float  # 0 … 1
    comment: str  # cleaned and cut
    time: float  # Unix seconds at its arrival


class Brake(NamedTuple):
    """A brake that was tripped: its agent's fine-tune serves nobody until a person clears it."""

    id: str  # a UUIDv7: told twice, it counts once
    agent: str
    time: float  # Unix seconds
    evidence: str  # a JSON object: what it was tripped by

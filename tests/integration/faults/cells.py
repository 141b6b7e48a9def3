"""The product: fault × phase × form × who fails, and the rules by which some of it does not exist.

A fault is a word of the stub, or one of the eight of a network (`tests.support.toxics`), which strikes between the
proxy and an upstream or between the client and the proxy, in either direction.  `kind` is all that the rules of
`outcome` need to know of it.
"""

import itertools
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from proxy.words import Failure


class Where(StrEnum):
    """Who misbehaves."""

    MODEL = "model"  # the upstream itself
    TO_UPSTREAM = "to-upstream"  # the network, on the way of the request
    FROM_UPSTREAM = "from-upstream"  # … of the response
    FROM_CLIENT = "from-client"
    TO_CLIENT = "to-client"


class Phase(StrEnum):
    """How far the response has come when the fault strikes."""

    HEADERS = "before-headers"
    CONTENT = "before-content"
    MIDDLE = "mid-stream"
    END = "at-the-end"


class Form(StrEnum):
    JSON = "json"
    SSE = "sse"


class Who(StrEnum):
    """Whose calls go wrong; of a fault on the client's side: who answers."""

    FINETUNED = "finetuned"
    BASELINE = "baseline"
    BOTH = "both"  # of a fault on the client's way back: the baseline, in the fine-tune's place


class Kind(StrEnum):
    """What a fault does to a call, as far as its outcome goes."""

    HARMLESS = "harmless"
    SAYS = "says"  # a whole answer that is a failure
    ENDS = "ends"  # the connection ends
    SILENT = "silent"
    TRICKLES = "trickles"  # something comes all the time, but too slowly
    ERRS = "errs"  # an error event


class Fault(NamedTuple):
    """One fault; `status` and `failure` are those of an answer that SAYS so."""

    name: str
    kind: Kind
    status: int = 200
    failure: Failure | None = None
    retried: bool = True  # the baseline, where the failure is one that is retried at all
    usage: bool = True  # the answer says how many tokens it took


class Words(NamedTuple):
    """A fault of the stub: its spec by phase; where `json` is left out, it is one of streams alone."""

    fault: Fault
    specs: dict[Phase, str]
    forms: tuple[Form, ...] = (Form.JSON, Form.SSE)


class Cell(NamedTuple):
    """One combination."""

    where: Where
    fault: Fault
    phase: Phase
    form: Form
    who: Who
    then: "Cell | None" = None  # another fault, of the baseline's calls
    buffered: bool = False  # `fallback.buffer_stream`: streams are held to their end

    def __str__(self) -> str:
        then = ", buffered" if self.buffered else "" if self.then is None else f", then {self.then}"
        return f"{self.where}/{self.fault.name}/{self.phase}/{self.form}/{self.who}{then}"


def says(name: str, status: int, failure: Failure, *, retried: bool = True, usage: bool = False) -> Fault:
    return Fault(name, Kind.SAYS, status, failure, retried, usage)


BEFORE, CONTENT, MIDDLE, END = Phase
STREAMS = (Form.SSE,)
HARMLESS, ENDS, SILENT, TRICKLES, ERRS = Kind.HARMLESS, Kind.ENDS, Kind.SILENT, Kind.TRICKLES, Kind.ERRS

STATUSES = {
    302: Failure.BAD_BODY,
    400: Failure.BAD_REQUEST,
    401: Failure.AUTH,
    403: Failure.AUTH,
    404: Failure.BAD_REQUEST,
    408: Failure.SERVER_ERROR,
    409: Failure.BAD_REQUEST,
    422: Failure.BAD_REQUEST,
    425: Failure.SERVER_ERROR,
    429: Failure.RATE_LIMITED,
    500: Failure.SERVER_ERROR,
    502: Failure.SERVER_ERROR,
    503: Failure.SERVER_ERROR,
    504: Failure.SERVER_ERROR,
    529: Failure.SERVER_ERROR,
}
SOON, LATE = "retry_after=0.05", "retry_after=60"

# Every word of the stub, in every phase in which it can strike.  N chunks of content: 0, 2, or all there are.
STUB = [
    Words(Fault("slow", HARMLESS), {BEFORE: "slow=0.03"}),
    Words(Fault("slow-beyond", SILENT), {BEFORE: "slow=9"}),
    Words(Fault("reset", ENDS), {BEFORE: "reset"}),
    Words(Fault("silence", SILENT), {BEFORE: "silence"}),
    *(Words(says(f"status-{code}", code, failure), {BEFORE: f"status={code}"}) for code, failure in STATUSES.items()),
    Words(says("retry_after-soon", 429, Failure.RATE_LIMITED), {BEFORE: f"status=429,{SOON}"}),
    Words(says("retry_after-late", 503, Failure.SERVER_ERROR, retried=False), {BEFORE: f"status=503,{LATE}"}),
    Words(says("auth", 401, Failure.AUTH), {BEFORE: "auth"}),
    Words(says("context_length", 400, Failure.CONTEXT_LENGTH), {BEFORE: "context_length"}),
    Words(says("content_filter", 400, Failure.CONTENT_FILTER), {BEFORE: "content_filter"}),
    Words(says("model_gone", 404, Failure.MODEL_GONE), {BEFORE: "model_gone"}),
    Words(says("null", 200, Failure.BAD_BODY), {CONTENT: "null"}),
    Words(says("not_json", 200, Failure.BAD_BODY), {CONTENT: "not_json"}),
    Words(says("error_200", 200, Failure.BAD_BODY), {CONTENT: "error_200"}),
    Words(says("body", 200, Failure.EMPTY), {CONTENT: 'body={"id":"x"}'}),
    Words(says("empty-choices", 200, Failure.EMPTY, usage=True), {CONTENT: "empty=choices"}),
    Words(says("empty-content", 200, Failure.EMPTY, usage=True), {CONTENT: "empty=content"}, (Form.JSON,)),
    # A finish reason is content: a stream that says no more than that it stops, is one that stopped.
    Words(Fault("empty-content", HARMLESS), {CONTENT: "empty=content"}, STREAMS),
    Words(says("role_only", 200, Failure.EMPTY, usage=True), {CONTENT: "role_only"}),
    Words(Fault("slow_first", HARMLESS), {CONTENT: "slow_first=0.03"}),
    Words(Fault("slow_first-beyond", SILENT), {CONTENT: "slow_first=9"}),
    Words(Fault("drip", HARMLESS), {MIDDLE: "drip=0.002"}),
    Words(Fault("drip-beyond", TRICKLES), {MIDDLE: "drip=0.4"}),
    Words(Fault("comments", HARMLESS), {CONTENT: "comments=3"}, STREAMS),
    Words(Fault("comments-beyond", TRICKLES), {CONTENT: "comments=99,drip=0.05"}, STREAMS),
    Words(Fault("cut", ENDS), {CONTENT: "cut=0", MIDDLE: "cut=2", END: "cut=99"}),
    Words(Fault("cut_reset", ENDS), {CONTENT: "cut_reset=0", MIDDLE: "cut_reset=2", END: "cut_reset=99"}),
    Words(Fault("stall", SILENT), {CONTENT: "stall=0", MIDDLE: "stall=2", END: "stall=99"}),
    Words(Fault("error_first", ERRS), {CONTENT: "error_first"}, STREAMS),
    Words(Fault("error", ERRS), {CONTENT: "error=0", MIDDLE: "error=2", END: "error=99"}, STREAMS),
    Words(Fault("malformed", HARMLESS), {CONTENT: "malformed=0", MIDDLE: "malformed=2", END: "malformed=99"}, STREAMS),
    Words(Fault("no_usage", HARMLESS, usage=False), {END: "no_usage"}),
    Words(Fault("no_done", HARMLESS), {END: "no_done"}, STREAMS),
]
# Words that choose calls and do nothing to them.
CHOOSING = {"model", "count", "probability"}

NETWORK = [
    Fault("latency", HARMLESS),
    Fault("latency-beyond", SILENT),
    Fault("bandwidth", HARMLESS),
    Fault("bandwidth-beyond", TRICKLES),
    Fault("slow_close", HARMLESS),
    Fault("timeout", SILENT),
    Fault("reset", ENDS),
    Fault("slicer", HARMLESS),
    Fault("limit_data", ENDS),
    Fault("down", ENDS),  # … and refuses the next one
]
DOWN = NETWORK[-1]


def excluded(cell: Cell) -> str | None:
    """The rule by which a combination cannot exist; None: it can."""
    where, fault, phase, form, who, *_ = cell
    if where is Where.MODEL:
        words = [each for each in STUB if each.fault == fault]
        if form not in words[0].forms:
            return "the word is about the other form"
        if phase not in words[0].specs:
            return "the word strikes in another phase"
        if form is Form.JSON and len(words[0].specs) > 1 and phase is not MIDDLE:
            return "the stub breaks a JSON answer half way, whatever N is"
    if where in (Where.TO_UPSTREAM, Where.FROM_CLIENT) and phase is not BEFORE:
        return "the request has gone before the response comes"
    if where is Where.FROM_CLIENT and fault is DOWN:
        return "a request that cannot set out is none"
    if where is Where.FROM_CLIENT and who is Who.BOTH:
        return "a request is one, whoever answers"
    return None


def pairs() -> list[Cell]:
    """The fine-tune fails in one way and the baseline in another: one of the model's, one of its network's."""
    models = _of_pairs(
        Where.MODEL, "status-429", "content_filter", "null", "empty-choices", "error_first", "cut", "stall"
    )
    networks = [
        *_of_pairs(Where.TO_UPSTREAM, "down"),
        *_of_pairs(Where.FROM_UPSTREAM, "reset", "timeout"),
        *(cell for cell in _of_pairs(Where.FROM_UPSTREAM, "bandwidth-beyond") if cell.phase is MIDDLE),
    ]
    return [
        first._replace(who=Who.BOTH, then=second._replace(who=Who.BASELINE))
        for first, second in (*itertools.product(models, networks), *itertools.product(networks, models))
        if first.form is second.form
    ]


def buffered() -> list[Cell]:
    """What breaks streams after their first content, where they are held to their end."""
    return [
        cell._replace(buffered=True)
        for where in (Where.MODEL, Where.FROM_UPSTREAM)
        for cell in cells(where)
        if cell.form is Form.SSE and cell.phase in (MIDDLE, END) and cell.fault.kind is not HARMLESS
    ]


def _of_pairs(where: Where, *names: str) -> list[Cell]:
    found = (cell for cell in cells(where) if cell.fault.name in names)
    return [cell for cell in found if cell.who is Who.FINETUNED and cell.phase is not END]


def product(where: Where) -> Iterator[Cell]:
    """Every combination, possible or not."""
    faults = [each.fault for each in STUB] if where is Where.MODEL else NETWORK
    return (Cell(where, *rest) for rest in itertools.product(faults, Phase, Form, Who))


def cells(where: Where) -> list[Cell]:
    """Every combination that can exist."""
    return [cell for cell in product(where) if excluded(cell) is None]


def spec_of(cell: Cell) -> str:
    """What the stub is told."""
    return next(each.specs[cell.phase] for each in STUB if each.fault == cell.fault)

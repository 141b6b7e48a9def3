"""The rules: from a cell to what client, upstreams, record and metrics must show.

One call.  A fault of some kind, in some phase, is a failure of some name, and has struck before the commit or after:

    kind       before headers       before content           mid-stream, at the end
    ends       reset                reset                    reset                     JSON
                                    stream_truncated         stream_truncated, after   SSE
    refuses    connect                                                                 an upstream that is down
    silent     first_byte_timeout   idle_timeout             idle_timeout              JSON
                                    first_content_timeout    idle_timeout, after       SSE
    trickles   first_byte_timeout   total_timeout            total_timeout             JSON
                                    first_content_timeout    total_timeout, after      SSE
    errs                            stream_error             stream_error, after       SSE
    says       what it says: a whole answer, which may be passed on

All calls.

 1. The fine-tune is asked once.  What it says is the answer where that is sound, a mistake of the client's, or a
    failure after the commit; else the baseline answers, and the reason is the fine-tune's failure.
 2. A time-out of the whole request is rescued only where the baseline has more time.
 3. The baseline is asked again, once, after `reset`, `rate_limited` and `server_error`, if the wait is short enough.
 4. A stream that is held to its end is committed to at its end: all that breaks it comes before.
 5. Of the last call the client gets what there is: a whole answer as it is; after the commit a visible break; else
    an error of ours, whose code is the failure.
 6. Nobody is named as having served where the answer is ours.

The client's side.

 7. A request that ends before it is complete is nobody's: 499, and no upstream hears of it.  One that does not come
    on is refused with 408.
 8. A client that leaves before its answer is complete is a 499 of the model that was asked, and no error.
 9. What the network has taken has been sent, whatever it does with it.
"""

from typing import NamedTuple, Protocol

from proxy.words import Failure
from tests.integration.faults.cells import DOWN, Cell, Form, Kind, Phase, Where, Who, cells

FINETUNED, BASELINE = "ft", "base"
# Why the baseline answers, where a cell is about something else.
UNWELL = next(cell for cell in cells(Where.MODEL) if cell.fault.name == "status-503" and cell.who is Who.FINETUNED)

RETRIED = {Failure.RESET, Failure.RATE_LIMITED, Failure.SERVER_ERROR}
CLIENTS_OWN = {Failure.AUTH, Failure.BAD_REQUEST, Failure.CONTENT_FILTER, Failure.CONTEXT_LENGTH}
OURS = {
    Failure.CONNECT: 502,
    Failure.RESET: 502,
    Failure.STREAM_TRUNCATED: 502,
    Failure.FIRST_BYTE_TIMEOUT: 504,
    Failure.FIRST_CONTENT_TIMEOUT: 504,
    Failure.IDLE_TIMEOUT: 504,
    Failure.TOTAL_TIMEOUT: 504,
}


class Call(NamedTuple):
    """One call of one model, as the record's attempt has it."""

    model: str
    status: int = 200  # 0: no head came
    failure: Failure | None = None
    committed: bool = False  # the client had content before the failure
    whole: bool = True  # there is an answer to pass on
    arrived: bool = True  # the upstream has heard of it
    tokens: str = "counted"  # by the upstream | estimated, by us | none


class Outcome(NamedTuple):
    """What is to be seen of one request.  A client that got nothing has status 0."""

    status: int
    clean: bool  # the client's answer has a clean end
    code: str  # of an error of ours: the body's, or of the last event
    served: str
    fallback: str
    calls: dict[str, int]  # as the upstreams count them
    record: tuple[int, str, str, str]  # status, failure, fallback, served
    attempts: tuple[tuple[str, int, str], ...]  # model, status, failure
    tokens: str
    metrics: dict[str, int]  # by name and outcome or reason, what is above 0
    agent: bool = True  # the record names it


class _HowFar(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def failure(self) -> Failure | None: ...


def reached(call: _HowFar) -> int:
    """A call's status; -1 where its time was over: how far it had come by then is the machine's doing."""
    return -1 if call.failure is Failure.TOTAL_TIMEOUT else call.status


def failure_of(cell: Cell | None) -> Failure | None:
    """The failure that a call with the fault is."""
    if cell is None:
        return None
    kind, phase, stream = cell.fault.kind, cell.phase, cell.form is Form.SSE
    match kind:
        case Kind.HARMLESS:
            return None
        case Kind.SAYS:
            return cell.fault.failure
        case Kind.ERRS:
            return Failure.STREAM_ERROR
        case Kind.ENDS:
            return Failure.STREAM_TRUNCATED if stream and phase is not Phase.HEADERS else Failure.RESET
    if phase is Phase.HEADERS:
        return Failure.FIRST_BYTE_TIMEOUT
    if stream and phase is Phase.CONTENT:
        return Failure.FIRST_CONTENT_TIMEOUT
    return Failure.IDLE_TIMEOUT if kind is Kind.SILENT else Failure.TOTAL_TIMEOUT


def call_of(cell: Cell, model: str, number: int = 1) -> Call:
    """The `number`th call of a model whose calls have the fault."""
    fault, failure = cell.fault, failure_of(cell)
    refused = fault is DOWN and (number > 1 or cell.where is Where.TO_UPSTREAM)
    if refused:
        return Call(model, 0, Failure.CONNECT, whole=False, arrived=False, tokens="none")
    if failure is None:
        return Call(model, tokens="counted" if fault.usage else "estimated")
    if fault.kind is Kind.SAYS:
        return Call(model, fault.status, failure, tokens="counted" if fault.usage else "none")
    content = cell.form is Form.SSE and cell.phase in (Phase.MIDDLE, Phase.END)
    return Call(
        model,
        0 if cell.phase is Phase.HEADERS else 200,
        failure,
        content and not cell.buffered,
        whole=fault.kind is Kind.ERRS,  # it is passed on, though it has no clean end
        arrived=cell.where is not Where.TO_UPSTREAM,
        tokens=("counted" if _told(cell) else "estimated") if content else "none",
    )


def _told(cell: Cell) -> bool:
    """Whether a stream's count of tokens came before the fault: a network's end is behind it, a model's before."""
    return cell.where is not Where.MODEL and cell.phase is Phase.END


def faults_of(cell: Cell) -> dict[str, Cell]:
    """Whose calls go wrong between the proxy and the models, and how."""
    if cell.where is Where.FROM_CLIENT:
        return {}
    if cell.where is Where.TO_CLIENT:
        return {FINETUNED: UNWELL._replace(form=cell.form)} if cell.who is Who.BOTH else {}
    faults = {FINETUNED: cell} if cell.who is not Who.BASELINE else {}
    return faults if cell.who is Who.FINETUNED else {**faults, BASELINE: cell.then or cell}


def calls_of(cell: Cell) -> tuple[list[Call], Failure | None]:
    """Every call that is made, and why the fine-tune was left: rules 1 to 3."""
    faults = faults_of(cell)
    calls: list[Call] = []
    fallback = None
    if cell.who is not Who.BASELINE:
        first = _call(faults, FINETUNED)
        calls.append(first)
        late = first.failure is Failure.TOTAL_TIMEOUT and failure_of(faults.get(BASELINE)) is Failure.TOTAL_TIMEOUT
        if first.failure is None or first.failure in CLIENTS_OWN or first.committed or late:
            return calls, None
        fallback = first.failure
    calls.append(_call(faults, BASELINE))
    if calls[-1].failure in RETRIED and faults[BASELINE].fault.retried:
        calls.append(_call(faults, BASELINE, 2))
    return calls, fallback


def _call(faults: dict[str, Cell], model: str, number: int = 1) -> Call:
    return call_of(faults[model], model, number) if model in faults else Call(model)


def outcome_of(cell: Cell) -> Outcome:
    """What a cell's request must come to."""
    if cell.where is Where.FROM_CLIENT and cell.fault.kind is not Kind.HARMLESS:
        return _without_a_request(cell)
    if cell.where is Where.TO_CLIENT:
        return _with_a_bad_way_back(cell)
    calls, fallback = calls_of(cell)
    last = calls[-1]
    broken = last.failure is not None and (last.committed or last.failure is Failure.STREAM_ERROR)
    passed_on = last.whole or last.committed
    ours = "" if last.failure in (None, Failure.STREAM_ERROR) or last.whole else str(last.failure)
    status = last.status if passed_on or last.failure is None else OURS[last.failure]
    served = last.model if passed_on else ""
    return _outcome(status, not broken, ours, served, calls, last.failure, fallback, tokens=_tokens(calls))


def _without_a_request(cell: Cell) -> Outcome:
    """Rule 7."""
    left = cell.fault.kind is Kind.ENDS
    failure = Failure.CLIENT_GONE if left else Failure.BAD_REQUEST
    status, code = (0, "") if left else (408, "request_timeout")
    outcome = _outcome(status, not left, code, "", [], failure, None, tokens="none", recorded=499 if left else 408)
    return outcome._replace(agent=False)


def _with_a_bad_way_back(cell: Cell) -> Outcome:
    """Rules 8 and 9."""
    calls, fallback = calls_of(cell)
    model = calls[-1].model
    seen = cell.form is Form.SSE and cell.phase in (Phase.MIDDLE, Phase.END)  # the head, and content
    if cell.fault.kind is Kind.ENDS:
        status = 0 if cell.phase is Phase.HEADERS else 200
        failure = None if seen else Failure.CLIENT_GONE  # an attempt that was committed to had not failed
        tokens = "counted" if seen and cell.phase is Phase.END else "estimated" if seen else "none"
        calls[-1] = Call(model, status, failure)
        outcome = _outcome(200, False, "", model, calls, Failure.CLIENT_GONE, fallback, tokens=tokens, recorded=499)
    else:
        outcome = _outcome(200, True, "", model, calls, None, fallback, tokens="counted")
        if cell.fault.kind is Kind.HARMLESS:
            return outcome
    outcome = outcome._replace(clean=False)
    return outcome if seen else outcome._replace(status=0, served="", fallback="")


def _outcome(
    status: int,
    clean: bool,
    code: str,
    served: str,
    calls: list[Call],
    failure: Failure | None,
    fallback: Failure | None,
    *,
    tokens: str,
    recorded: int = 0,
) -> Outcome:
    recorded = recorded or status
    metrics = {f"model_requests_total {failure or 'success'}": 1}
    if failure is not None and recorded != 499:
        metrics[f"model_errors_total {failure}"] = 1
    if fallback is not None:
        metrics[f"model_fallbacks_total {fallback}"] = 1
    made = [call.model for call in calls if call.arrived]
    return Outcome(
        status,
        clean,
        code,
        served,
        fallback or "",
        {model: made.count(model) for model in dict.fromkeys(made)},
        (recorded, failure or "", fallback or "", served),
        tuple((call.model, reached(call), call.failure or "") for call in calls),
        tokens,
        metrics,
    )


def _tokens(calls: list[Call]) -> str:
    """Of all calls together: one that we estimated makes the sum an estimate."""
    kinds = {call.tokens for call in calls} - {"none"}
    return "estimated" if "estimated" in kinds else "counted" if kinds else "none"

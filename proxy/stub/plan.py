"""From an answer and its fault to what happens on the wire, act by act. Pure: nothing is sent here."""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from proxy.stub.answers import Answer, Event, Kind
from proxy.stub.faults import Fault

DRIP_BYTES = 16
COMMENT = b": still working\n\n"
MALFORMED = b'data: {"id":"chatcmpl-stub","choices":[{"index":0,"delta":{"con\n\n'


class Head(NamedTuple):
    """Status and headers; `length` of the body in bytes, None where it is a stream."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None


class Data(NamedTuple):
    """Bytes of the body."""

    data: bytes


class Pause(NamedTuple):
    """Seconds without a byte."""

    seconds: float


class Ending(Enum):
    """How it ends."""

    CLEAN = auto()
    CLOSE = auto()  # FIN in the middle
    RESET = auto()  # RST in the middle, or instead of everything
    STALL = auto()  # silence until the client leaves


Act = Head | Data | Pause | Ending


class Pace(NamedTuple):
    """How fast the stub is without faults: seconds before the headers, and for each word."""

    latency: float
    per_word: float


def plan(
    answer: Answer, fault: Fault, pace: Pace, headers: tuple[tuple[str, str], ...], error_event: bytes
) -> Iterator[Act]:
    """Yield the acts of one answer; the last one is an `Ending`.

    `headers` go out beside the answer's own; `error_event` is what an error within a stream looks like.
    """
    if fault.silence:
        yield Ending.STALL
        return
    generating = 0.0 if answer.events is not None else answer.words * pace.per_word
    yield Pause(pace.latency + fault.slow + generating)
    if fault.reset:
        yield Ending.RESET
        return
    retry = () if fault.retry_after is None else (("retry-after", f"{fault.retry_after:g}"),)
    length = len(answer.body) if answer.events is None else None
    yield Head(answer.status, (("content-type", answer.content_type), *headers, *retry), length)
    if answer.events is None:
        yield Pause(fault.slow_first)
        yield from _body(answer.body, fault)
    else:
        yield from _stream(answer, fault, pace, error_event)


def _body(body: bytes, fault: Fault) -> Iterator[Act]:
    """Yield a body of known length."""
    broken = _break(fault, None)
    sent = body if broken is None else body[: len(body) // 2]
    size = DRIP_BYTES if fault.drip else len(sent) or 1
    for start in range(0, len(sent), size):
        if start:
            yield Pause(fault.drip)
        yield Data(sent[start : start + size])
    yield broken or Ending.CLEAN


def _stream(answer: Answer, fault: Fault, pace: Pace, error_event: bytes) -> Iterator[Act]:
    """Yield a stream: comments, the role, content until the fault strikes, the end."""
    for _ in range(fault.comments):
        yield Data(COMMENT)
        yield Pause(fault.drip)
    yield Pause(fault.slow_first)
    if fault.error_first:
        yield Data(error_event)
        yield Ending.CLEAN
        return
    content = 0  # chunks sent
    garbled = fault.malformed is None
    for event in answer.events or ():
        if event.kind is not Kind.ROLE:
            # What should follow N chunks comes before the finish reason where the answer has fewer.
            reached = content if event.kind is Kind.CONTENT else None
            if broken := _break(fault, reached):
                yield broken
                return
            if _due(fault.error, reached):
                yield Data(error_event)
                yield Ending.CLEAN
                return
            if not garbled and _due(fault.malformed, reached):
                garbled = True
                yield Data(MALFORMED)
        if _left_out(event, fault):
            continue
        yield Data(event.data)
        content += event.kind is Kind.CONTENT
        yield Pause(fault.drip + (pace.per_word if event.kind is Kind.CONTENT else 0))
    yield Ending.CLEAN


def _due(after: int | None, content: int | None) -> bool:
    """Tell whether what should follow `after` chunks is due; `content` is None when no more will come."""
    return after is not None and (content is None or content >= after)


def _break(fault: Fault, content: int | None) -> Ending | None:
    """Return how the connection breaks once so many chunks are out; None: not yet."""
    for after, ending in (
        (fault.cut, Ending.CLOSE),
        (fault.cut_reset, Ending.RESET),
        (fault.stall, Ending.STALL),
    ):
        if _due(after, content):
            return ending
    return None


def _left_out(event: Event, fault: Fault) -> bool:
    """Tell whether a fault swallows an event."""
    match event.kind:
        case Kind.ROLE:
            return fault.empty == "choices"
        case Kind.CONTENT:
            return fault.role_only or bool(fault.empty)
        case Kind.FINISH:
            return fault.role_only or fault.empty == "choices"
        case Kind.DONE:
            return fault.no_done
        case Kind.USAGE:
            return False  # a stream without content is still billed

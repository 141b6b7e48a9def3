"""Which requests are traced, and what their upstreams are told of it.

The caller decides where it says so in `traceparent`, else a share of the new trace ids does.  A
request that is not traced keeps its fields byte for byte.
"""

from random import getrandbits
from typing import Final

from proxy.exchange.call import CallState
from proxy.wire.headers import RequestHeaders
from proxy.wire.traceparent import SAMPLED, parse_traceparent, traceparent, without_caller
from proxy.words import Trace

_LOW_BITS: Final = 64  # of a trace id: they decide, as in OpenTelemetry's TraceIdRatioBased sampler
_RANGE: Final = 2.0**_LOW_BITS


def begin_trace(headers: RequestHeaders, method: bytes, share: float) -> Trace | None:
    """The request's place in its caller's trace, or in a new one; None where it is not traced."""
    caller = parse_traceparent(headers.read.get(b"traceparent", b""))
    if caller is not None:
        if not caller.flags & SAMPLED:
            return None
        return Trace(caller.trace_id, caller.span, _new_span(), caller.flags, method.decode("latin-1"))
    low = getrandbits(_LOW_BITS)
    if low >= share * _RANGE:
        return None
    return Trace(f"{_new_span()}{low:016x}", "", _new_span(), SAMPLED, method.decode("latin-1"))


def traced(call: CallState, head: bytes) -> bytes:
    """A request's head as this attempt sends it: called by a span of ours.

    The caller's `tracestate` stays; without a caller it would be that of some other trace.
    """
    trace = call.trace
    assert trace is not None
    call.span = _new_span()
    fields = without_caller(head[:-2], state=not trace.parent)
    return b"%btraceparent: %b\r\n\r\n" % (fields, traceparent(trace.trace_id, call.span, trace.flags))


def _new_span() -> str:
    return f"{getrandbits(64) or 1:016x}"

"""Which requests are traced: the caller decides, else a share of new trace ids."""

import pytest

from proxy.exchange.trace import begin_trace
from proxy.wire.headers import RequestSorter
from proxy.words import Trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SORTER = RequestSorter(frozenset(), forward=False)


def begun(share: float, *values: str) -> Trace | None:
    return begin_trace(SORTER.sort([(b"Traceparent", value.encode()) for value in values]), b"POST", share)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_caller_that_is_sampled_is_continued_whatever_the_share(share: float) -> None:
    trace = begun(share, f"00-{TRACE}-{SPAN}-01")
    assert trace is not None
    assert (trace.trace_id, trace.parent, trace.flags, trace.method) == (TRACE, SPAN, 1, "POST")
    assert trace.span not in ("0" * 16, SPAN)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_caller_that_is_not_sampled_is_not_traced_whatever_the_share(share: float) -> None:
    assert begun(share, f"00-{TRACE}-{SPAN}-00") is None


@pytest.mark.parametrize("values", [(), ("nonsense",), (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01")])
def test_without_one_sound_caller_a_trace_of_our_own_begins(values: tuple[str, ...]) -> None:
    trace = begun(1.0, *values)
    assert trace is not None
    assert (trace.parent, trace.flags) == ("", 1)
    assert trace.trace_id not in (TRACE, "0" * 32)
    assert len(trace.trace_id) == 32
    assert begun(0.0, *values) is None


def test_share_is_of_the_trace_ids() -> None:
    found = [trace for _ in range(20_000) if (trace := begun(0.1)) is not None]
    assert 1700 < len(found) < 2300  # seven standard deviations
    assert all(int(trace.trace_id[16:], 16) < 0.1 * 2**64 for trace in found)
    assert len({trace.trace_id for trace in found}) == len({trace.span for trace in found}) == len(found)

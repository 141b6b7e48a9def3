"""W3C Trace Context, §3.2: what is read of `traceparent`, compared with OpenTelemetry's own reading."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.wire.traceparent import Caller, parse_traceparent, traceparent, without_caller

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SOUND = f"00-{TRACE}-{SPAN}-01"


def hexadecimal(length: int) -> st.SearchStrategy[str]:
    return st.one_of(
        st.text("0123456789abcdef", min_size=length, max_size=length),
        st.text("0123456789abcdefABCDEFg-", min_size=length - 1, max_size=length + 1),
        st.just("0" * length),
    )


LIKE_ONE = st.builds(
    lambda *parts: "-".join(parts[:4]) + parts[4],
    st.sampled_from(["00", "01", "cc", "fe", "ff", "0", "FF", ""]),
    hexadecimal(32),
    hexadecimal(16),
    st.sampled_from(["00", "01", "02", "03", "ff", "0", "0g"]),
    st.sampled_from(["", "-", "-what", "x", f",{SOUND}"]),
)


@given(st.one_of(LIKE_ONE, st.text(st.characters(codec="latin-1", exclude_characters="\r\n"))))
@example(SOUND)
@example(f"cc-{TRACE}-{SPAN}-01-what")
def test_value_is_read_as_opentelemetry_reads_it(value: str) -> None:
    context = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": value})).get_span_context()
    theirs = (f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags & 1)
    found = parse_traceparent(value.strip(" \t").encode("latin-1"))
    assert (found is not None) == context.is_valid
    if found is not None:
        assert (found.trace_id, found.span, found.flags & 1) == theirs


@given(st.binary())
def test_no_bytes_are_an_error(value: bytes) -> None:
    assert parse_traceparent(value) is None or len(value) >= len(SOUND)


@pytest.mark.parametrize(
    "value",
    [
        "",
        SOUND.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{SOUND}-more",
        f"{SOUND},{SOUND}",
        f" {SOUND}",
        f"{SOUND}\n",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
    ],
)
def test_value_that_breaks_a_rule_names_no_caller(value: str) -> None:
    assert parse_traceparent(value.encode()) is None


def test_flags_that_nobody_has_defined_are_not_kept() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-ff".encode()) == Caller(TRACE, SPAN, 3)


def test_what_is_written_is_read_again() -> None:
    assert traceparent(TRACE, SPAN, 1) == SOUND.encode()


def test_caller_is_taken_out_of_a_block_and_nothing_else() -> None:
    block = b"A: 1\r\nTraceparent: x\r\nx-traceparent: y\r\nB: traceparent: z\r\nTRACEPARENT:\r\ntracestate: s\r\n"
    assert without_caller(block, state=False) == b"A: 1\r\nx-traceparent: y\r\nB: traceparent: z\r\ntracestate: s\r\n"
    assert without_caller(block, state=True) == b"A: 1\r\nx-traceparent: y\r\nB: traceparent: z\r\n"

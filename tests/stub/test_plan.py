import pytest

from proxy.stub.answers import DONE, Answer, Event, Kind
from proxy.stub.faults import Fault, parse_fault
from proxy.stub.plan import COMMENT, MALFORMED, Act, Data, Ending, Head, Pace, Pause, plan

ROLE, ONE, TWO = Event(Kind.ROLE, b"role;"), Event(Kind.CONTENT, b"1;"), Event(Kind.CONTENT, b"2;")
FINISH, USAGE = Event(Kind.FINISH, b"finish;"), Event(Kind.USAGE, b"usage;")
STREAM = Answer(200, events=(ROLE, ONE, TWO, FINISH, USAGE, DONE), content_type="text/event-stream")
ERROR = b"error;"
AT_ONCE = Pace(latency=0, per_word=0)


def acts_of(fault: Fault, answer: Answer = STREAM, pace: Pace = AT_ONCE) -> list[Act]:
    """The acts, without pauses of no length."""
    return [act for act in plan(answer, fault, pace, (), ERROR) if act != Pause(0)]


def sent(acts: list[Act]) -> bytes:
    return b"".join(act.data for act in acts if isinstance(act, Data)).replace(DONE.data, b"done;")


@pytest.mark.parametrize(
    ("spec", "body", "ending"),
    [
        ("cut=0", b"role;", Ending.CLOSE),
        ("cut=1", b"role;1;", Ending.CLOSE),
        ("cut=99", b"role;1;2;", Ending.CLOSE),
        ("cut_reset=1", b"role;1;", Ending.RESET),
        ("stall=2", b"role;1;2;", Ending.STALL),
        ("error_first", b"error;", Ending.CLEAN),
        ("error=1", b"role;1;error;", Ending.CLEAN),
        ("malformed=1", b"role;1;" + MALFORMED + b"2;finish;usage;done;", Ending.CLEAN),
        ("no_done", b"role;1;2;finish;usage;", Ending.CLEAN),
        ("role_only", b"role;usage;done;", Ending.CLEAN),
        ("empty", b"usage;done;", Ending.CLEAN),
        ("empty=content", b"role;finish;usage;done;", Ending.CLEAN),
        ("comments=2", COMMENT * 2 + b"role;1;2;finish;usage;done;", Ending.CLEAN),
        ("silence", b"", Ending.STALL),
        ("reset", b"", Ending.RESET),
    ],
)
def test_fault_decides_what_of_a_stream_goes_out(spec: str, body: bytes, ending: Ending) -> None:
    acts = acts_of(parse_fault(spec))
    assert sent(acts) == body
    assert acts[-1] is ending


def test_drip_pauses_after_every_event_and_comment() -> None:
    acts = acts_of(Fault(drip=0.5, comments=1))
    assert acts.count(Pause(0.5)) == 7


def test_delays_are_before_the_headers_or_after_them() -> None:
    assert acts_of(Fault(slow=2.0))[0] == Pause(2.0)
    late = acts_of(Fault(slow_first=2.0, comments=1))
    assert isinstance(late[0], Head)
    assert late[1:3] == [Data(COMMENT), Pause(2.0)]


def test_pace_is_a_pause_for_each_word_of_a_stream_and_one_before_json() -> None:
    pace = Pace(latency=1.0, per_word=0.25)
    stream = acts_of(Fault(), pace=pace)
    assert stream[0] == Pause(1.0)
    assert stream.count(Pause(0.25)) == 2
    assert acts_of(Fault(), Answer(200, b"{}", words=4), pace)[0] == Pause(2.0)


@pytest.mark.parametrize(
    ("spec", "ending"), [("cut=5", Ending.CLOSE), ("cut_reset=0", Ending.RESET), ("stall=1", Ending.STALL)]
)
def test_json_breaks_half_way_and_announces_the_whole(spec: str, ending: Ending) -> None:
    acts = acts_of(parse_fault(spec), Answer(200, b"0123456789"))
    assert isinstance(acts[0], Head)
    assert acts[0].length == 10
    assert (sent(acts), acts[-1]) == (b"01234", ending)


def test_json_drips_in_pieces() -> None:
    acts = acts_of(Fault(drip=0.1), Answer(200, bytes(40)))
    assert [len(act.data) for act in acts if isinstance(act, Data)] == [16, 16, 8]
    assert acts.count(Pause(0.1)) == 2


def test_retry_after_is_a_header_in_seconds() -> None:
    acts = acts_of(Fault(retry_after=0.3), Answer(429, b"{}"))
    assert isinstance(acts[0], Head)
    assert ("retry-after", "0.3") in acts[0].headers

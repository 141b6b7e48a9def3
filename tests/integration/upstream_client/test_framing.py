"""The upstream client's framing: what is no HTTP/1.1 answer is a failure, never half an answer.

ACCEPTANCE 10, 13 and point 6 of the issue: the proxy and an upstream never disagree about where an
answer ends.
"""

import pytest

from proxy.stub import Stub
from tests.support.lane import FINETUNED, eventually, running
from tests.support.raw_client import RawResponse
from tests.support.raw_upstream import Action, Close, Pause, RawUpstream, Read, Reset, Send, Stall, chunk
from tests.support.rescue import ANSWER, OK, apart, ask, assert_rescued, ours

LENGTH = b"Content-Length: %d\r\n" % len(ANSWER)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HALF = len(ANSWER) // 2


def raw(fields: bytes = LENGTH, body: bytes = ANSWER, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An answer with exactly these header lines."""
    return start + b"\r\nContent-Type: application/json\r\n" + fields + b"\r\n" + body


def assert_fine_tunes(answer: RawResponse) -> None:
    assert (answer.status, answer.body, answer.clean_end) == (200, ANSWER, True)
    assert ours(answer)["served"] == FINETUNED
    # Neither an interim answer's fields nor a trailer, a status line or half a line is among them.
    names = {name.lower() for name, _ in answer.headers if not name.startswith(b"x-splitlane-")}
    assert names <= {b"content-type", b"content-length", b"x-odd", b"connection"}
    assert answer.head.all(b"content-type") == [b"application/json"]


NONSENSE = {
    "no-status-line": b"hello\r\n\r\n",
    "http-2-preface": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\x00\x04",
    "http-0.9": ANSWER,
    "other-protocol": raw(start=b"ICY 200 OK"),
    "status-of-two-digits": raw(start=b"HTTP/1.1 20 OK"),
    "status-no-number": raw(start=b"HTTP/1.1 2xx OK"),
    "both-lengths": raw(LENGTH + CHUNKED, chunk(ANSWER) + b"0\r\n\r\n"),
    "both-lengths-reversed": raw(CHUNKED + LENGTH, chunk(ANSWER) + b"0\r\n\r\n"),
    "two-lengths": raw(LENGTH + b"Content-Length: 5\r\n"),
    "two-equal-lengths": raw(LENGTH + LENGTH),
    "length-list": raw(b"Content-Length: 5, 5\r\n"),
    "length-negative": raw(b"Content-Length: -1\r\n"),
    "length-signed": raw(b"Content-Length: +%d\r\n" % len(ANSWER)),
    "length-hex": raw(b"Content-Length: 0x10\r\n"),
    "length-no-number": raw(b"Content-Length: many\r\n"),
    "length-overflow": raw(b"Content-Length: 18446744073709551617\r\n"),
    "length-with-a-space-before-the-colon": raw(b"Content-Length : %d\r\n" % len(ANSWER)),
    "chunk-size-no-number": raw(CHUNKED, b"zz\r\n" + ANSWER + b"\r\n0\r\n\r\n"),
    "chunk-size-negative": raw(CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-prefixed": raw(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-missing": raw(CHUNKED, b"\r\n" + ANSWER + b"\r\n0\r\n\r\n"),
    "chunk-size-overflow": raw(CHUNKED, b"fffffffffffffffff\r\n" + ANSWER + b"\r\n0\r\n\r\n"),
    "chunk-longer-than-its-size": raw(CHUNKED, b"5\r\n" + ANSWER + b"\r\n0\r\n\r\n"),
    "chunk-without-its-line-end": raw(CHUNKED, b"%x\r\n" % len(ANSWER) + ANSWER + b"0\r\n\r\n"),
    "nul-in-a-value": raw(b"X-Odd: a\x00b\r\n" + LENGTH),
    "line-without-a-colon": raw(b"X-Odd\r\n" + LENGTH),
    "bare-cr": raw(b"X-Odd: a\rb\r\n" + LENGTH),
    "bare-lf": raw(b"X-Odd: a\n" + LENGTH),
    "bare-lf-everywhere": raw().replace(b"\r\n", b"\n"),
    "bare-lf-at-the-end-of-the-head": raw(LENGTH, b"").replace(b"\r\n\r\n", b"\r\n\n") + ANSWER,
    "folded-value": raw(b"X-Odd: a\r\n b\r\n" + LENGTH),
    "space-in-a-name": raw(b"X Odd: a\r\n" + LENGTH),
    "empty-name": raw(b": a\r\n" + LENGTH),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
async def test_answer_that_is_no_http_is_served_by_baseline(answer: bytes) -> None:
    """ACCEPTANCE 10: not one byte of it reaches the client, and its connection is not used again."""
    async with Stub() as stub, RawUpstream([Read(), Send(answer), Stall()]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_rescued(await ask(lane), "bad_body")
            await eventually(lambda: candidate.connections[0].closed_at is not None)
        assert len(candidate.requests) == 1


SHORT = {
    "body-shorter-than-its-length": raw(LENGTH, ANSWER[:HALF]),
    "no-body-at-all": raw(LENGTH, b""),
    "chunk-shorter-than-its-size": raw(CHUNKED, b"%x\r\n" % len(ANSWER) + ANSWER[:HALF]),
    "no-last-chunk": raw(CHUNKED, chunk(ANSWER)),
    "last-chunk-without-its-end": raw(CHUNKED, chunk(ANSWER) + b"0\r\n"),
    "trailers-without-their-end": raw(CHUNKED, chunk(ANSWER) + b"0\r\nX-Odd: 1\r\n"),
    "other-coding-than-chunked": raw(b"Transfer-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("ending", [Close(), Reset()], ids=["fin", "rst"])
@pytest.mark.parametrize("answer", SHORT.values(), ids=SHORT)
async def test_short_answer_is_served_by_baseline(answer: bytes, ending: Action) -> None:
    """ACCEPTANCE 10, 13: even where what came would parse as JSON."""
    async with (
        Stub() as stub,
        RawUpstream([Read(), Send(answer), Pause(0.03), ending]) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        rescued = await ask(lane)
    assert ours(rescued)["fallback"] in ("reset", "bad_body")
    assert_rescued(rescued, ours(rescued)["fallback"])


SOUND = {
    "length": [Send(raw())],
    "length-in-lower-case": [Send(raw(LENGTH.lower()))],
    "byte-by-byte": [Send(raw(), 1, 0.0001)],
    "one-chunk": [Send(raw(CHUNKED, chunk(ANSWER) + b"0\r\n\r\n"))],
    "many-chunks": [Send(raw(CHUNKED, b"".join(chunk(ANSWER[i : i + 1]) for i in range(len(ANSWER))) + b"0\r\n\r\n"))],
    "chunk-extension": [Send(raw(CHUNKED, b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)))],
    "chunk-size-with-zeros": [Send(raw(CHUNKED, b"000%X\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)))],
    "trailers": [Send(raw(CHUNKED, chunk(ANSWER) + b"0\r\nX-Odd: 1\r\n\r\n"))],
    "continue-before": [Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Pause(0.02), Send(raw())],
    "continue-in-one": [Send(b"HTTP/1.1 100 Continue\r\n\r\n" + raw())],
    "hints-before": [Send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + raw())],
    "hint-with-a-length": [Send(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n" + raw())],
    "head-of-60-kilobytes": [Send(raw(b"X-Odd: " + b"x" * 60_000 + b"\r\n" + LENGTH))],
    "no-reason": [Send(raw(start=b"HTTP/1.1 200"))],
}


@pytest.mark.parametrize("actions", SOUND.values(), ids=SOUND)
async def test_sound_answer_is_passed_on_and_its_connection_used_again(actions: list[Action]) -> None:
    """ACCEPTANCE 3: interim answers are not the answer."""
    async with Stub() as stub, RawUpstream([Read(), *actions]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            for _ in range(3):
                assert_fine_tunes(await ask(lane))
        assert len(candidate.connections) == 1


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n"], ids=["one", "two"])
async def test_empty_line_before_an_answer_is_skipped_or_refused(lines: bytes) -> None:
    """ACCEPTANCE 3: what is passed on has all of its fields, and nothing that is none."""
    async with (
        Stub() as stub,
        RawUpstream([Read(), Send(lines + raw()), Stall()]) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        answer = await ask(lane)
    if ours(answer)["served"] == FINETUNED:
        assert_fine_tunes(answer)
    else:
        assert_rescued(answer, "bad_body")


async def test_hint_is_no_body_marker_for_the_answer_behind_it() -> None:
    """ACCEPTANCE 3: a 103's length is the 103's; the answer ends with its connection."""
    hint = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n"
    script: list[Action] = [Read(), Send(hint + raw(b"")), Pause(0.05), Close()]
    async with (
        Stub() as stub,
        RawUpstream(script) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        assert_fine_tunes(await ask(lane))


CLOSING = {
    "end-of-connection": raw(b""),
    "end-of-connection-http-1.0": raw(b"", start=b"HTTP/1.0 200 OK"),
    "length-http-1.0": raw(start=b"HTTP/1.0 200 OK"),
    "connection-close": raw(LENGTH + b"Connection: close\r\n"),
    "connection-close-among-others": raw(LENGTH + b"Connection: X-Odd, Close\r\n"),
    "chunked-connection-close": raw(CHUNKED + b"Connection: close\r\n", chunk(ANSWER) + b"0\r\n\r\n"),
}


@pytest.mark.parametrize("answer", CLOSING.values(), ids=CLOSING)
async def test_answer_that_ends_its_connection_is_passed_on(answer: bytes) -> None:
    """ACCEPTANCE 3: the next request is on another connection."""
    async with Stub() as stub, RawUpstream([Read(), Send(answer), Pause(0.02), Close()]) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            for _ in range(2):
                assert_fine_tunes(await ask(lane))
        assert [len(each.requests) for each in candidate.connections] == [1, 1]


async def test_http_10_answer_that_keeps_its_connection_is_passed_on() -> None:
    """ACCEPTANCE 3: whether it is used again is our choice; that it is answered is not."""
    answer = raw(LENGTH + b"Connection: keep-alive\r\n", start=b"HTTP/1.0 200 OK")
    async with (
        Stub() as stub,
        RawUpstream([Read(), Send(answer)]) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        for _ in range(2):
            assert_fine_tunes(await ask(lane))


@pytest.mark.parametrize(
    ("ending", "cut"), [(Reset(), len(ANSWER)), (Close(), HALF)], ids=["whole-then-reset", "half-then-closed"]
)
async def test_body_without_a_length_that_breaks_off_is_served_by_baseline(ending: Action, cut: int) -> None:
    """ACCEPTANCE 13: only an orderly end is an end, and half a JSON is none."""
    script: list[Action] = [Read(), Send(raw(b"", ANSWER[:cut])), Pause(0.05), ending]
    async with (
        Stub() as stub,
        RawUpstream(script) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        assert_rescued(await ask(lane), "reset" if cut == len(ANSWER) else "bad_body")


SURPLUS = {
    "second-answer": OK,
    "second-answer-begun": b"HTTP/1.1 200 OK\r\n",
    "one-byte": b"H",
    "no-http": b"surplus",
    "longer-body": b'{"choices":[]}',
}


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"], ids=["keep-alive", "close"])
@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
async def test_bytes_behind_an_answer_end_its_connection_and_nothing_more(surplus: bytes, closing: bytes) -> None:
    """The answer stands; what follows it is nobody's answer, least of all the next request's."""
    async with (
        Stub() as stub,
        RawUpstream([Read(), Send(raw(LENGTH + closing) + surplus), Stall()]) as candidate,
    ):
        async with running(apart(candidate.url, stub.url)) as lane:
            for _ in range(2):
                assert_fine_tunes(await ask(lane))
            await eventually(lambda: all(each.closed_at is not None for each in candidate.connections))
        assert [len(each.requests) for each in candidate.connections] == [1, 1]
        assert stub.calls == []


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
async def test_bytes_on_an_idle_connection_end_it(surplus: bytes) -> None:
    """An answer that no request asked for is never the next request's answer."""
    script: list[Action] = [Read(), Send(OK), Pause(0.05), Send(surplus), Stall()]
    async with Stub() as stub, RawUpstream(script) as candidate:
        async with running(apart(candidate.url, stub.url)) as lane:
            assert_fine_tunes(await ask(lane))
            await eventually(lambda: candidate.connections[0].closed_at is not None)
            assert_fine_tunes(await ask(lane))
        assert [len(each.requests) for each in candidate.connections] == [1, 1]


async def test_bytes_behind_a_stream_do_not_spoil_it() -> None:
    """What the client got was whole, and the record says so."""
    events = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n"
    opening = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + CHUNKED + b"\r\n"
    script: list[Action] = [
        Read(),
        Send(opening + chunk(events[0])),
        Pause(0.1),
        Send(chunk(events[1]) + b"0\r\n\r\nsurplus"),
        Stall(),
    ]
    async with (
        Stub() as stub,
        RawUpstream(script) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        answer = await ask(lane, b'{"messages":[],"stream":true}')
        record = await lane.record()
    assert (answer.body, answer.clean_end) == (b"".join(events), True)
    assert (record.status, record.failure) == (200, None)


async def test_upgrade_that_nobody_asked_for_is_served_by_baseline() -> None:
    """ACCEPTANCE 6, 10: a 101 ends HTTP on its connection."""
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    async with (
        Stub() as stub,
        RawUpstream([Read(), Send(switch + OK), Stall()]) as candidate,
        running(apart(candidate.url, stub.url)) as lane,
    ):
        assert_rescued(await ask(lane), "bad_body")
        await eventually(lambda: candidate.connections[0].closed_at is not None)


ENDLESS = {
    "one-long-value": b"HTTP/1.1 200 OK\r\nX-Odd: " + b"x" * 400_000,
    "many-fields": b"HTTP/1.1 200 OK\r\n" + b"X-Odd: xxxxxxxxxxxxxxxxxxxx\r\n" * 15_000,
    "many-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10_000,
}


@pytest.mark.parametrize("size", [0, 16_384], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("head", ENDLESS.values(), ids=ENDLESS)
async def test_head_without_end_is_served_by_baseline(head: bytes, size: int) -> None:
    """ACCEPTANCE 10: long before any time-out."""
    script: list[Action] = [Read(), Send(head, size, 0.001), Stall()]
    slow = {"first_byte": "3s", "first_content": "3s"}
    async with (
        Stub() as stub,
        RawUpstream(script) as candidate,
        running(apart(candidate.url, stub.url, timeouts=slow)) as lane,
    ):
        assert_rescued(await ask(lane), "bad_body")

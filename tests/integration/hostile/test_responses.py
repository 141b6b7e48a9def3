"""ACCEPTANCE 34, the other direction: what an upstream sends is read as the RFCs read it, or is no answer.

The client asks twice on one connection: for a response that may be anything, and for one that is sound.  It gets two
sound messages, or sees the first one break off.  A fine-tune's broken response is answered by the baseline.
"""

from collections import Counter
from functools import cache

import pytest

from tests.integration.asking import ANSWER, chat
from tests.integration.hostile.carrier import Carried, carrying
from tests.integration.hostile.reader import Message, Reading, read_responses
from tests.integration.hostile.responses import FAMILIES
from tests.support.lane import FINETUNED
from tests.support.raw_upstream import Answer, response

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LAST_BODY = b'{"last":1}'
BASELINE_BODY = ANSWER.partition(b"\r\n\r\n")[2]
ONCE = {"retry": {"baseline": 0}, "breaker": {"failures": 1_000_000}}
QUICK = {"up": {"timeouts": {"first_byte": "3s", "first_content": "3s", "idle": "3s"}}}


# Where llhttp reads on to the connection's end, as RFC 9112 §6.3 says, or waits for a body.
READ_ON = {"coding beside chunked", "tab behind a coding", "body of an interim response"}


class Script:
    """An upstream's answers: the response under test, and sound ones to the baseline and to the last request."""

    def __init__(self) -> None:
        self.data = b""
        self.ends = False

    def __call__(self, request: bytes) -> tuple[bytes, bool]:
        if b" /last " in request:
            return response(LAST_BODY), False
        if b"/chat/" in request and FINETUNED.encode() not in request:
            return ANSWER, False
        return self.data, self.ends


def problem(expected: Reading, carried: Carried, *, split: bool) -> str | None:
    """What is wrong with what came of a response that reads so; `split`: as the fine-tune's."""
    if not carried.ended:
        return "no end"
    if any("Traceback" in line for line in carried.log):
        return "log"
    if b"stolen" in carried.answer and not any(b"stolen" in each.body for each in expected.messages):
        return "stolen"
    got = read_responses(carried.answer, [b"GET", b"GET"])
    sound = expected.broken is None and not expected.incomplete
    if split:
        return wrong_rescue(expected, got)
    if got.incomplete and not sound and len(got.messages) == 0:
        return None  # it broke off, visibly
    if got.broken or got.rest or len(got.messages) != 2 or got.messages[1].body != LAST_BODY:
        return f"answer {got}"
    first = got.messages[0]
    if sound:
        wanted = expected.messages[0]
        return None if (first.first, first.body) == (wanted.first, wanted.body) else f"answer {first}"
    return None if first.first == (b"502",) else f"answered {first}"


def wrong_rescue(expected: Reading, got: Reading) -> str | None:
    """What is wrong with the answer to a chat, given the fine-tune's response."""
    if got.broken or got.rest or len(got.messages) != 2 or got.messages[1].body != LAST_BODY:
        return f"answer {got}"
    chat_answer = got.messages[0]
    reason = reason_of(chat_answer)
    if expected.incomplete or expected.broken in READ_ON:
        return None if chat_answer.body == BASELINE_BODY and reason else f"reason {reason!r}"
    if expected.broken is not None:
        return None if (reason, chat_answer.body) == (b"bad_body", BASELINE_BODY) else f"reason {reason!r}"
    return None if reason not in (b"reset", b"first_byte_timeout") else f"reason {reason!r}"


def reason_of(answer: Message) -> bytes:
    return b"".join(answer.all(b"x-splitlane-fallback"))


@cache
def readings(family: str) -> list[tuple[bytes, Reading]]:
    """The responses, and how they read."""
    return [(data, read_responses(data, [b"GET"])) for data in dict.fromkeys(FAMILIES[family]())]


def needs_an_end(data: bytes, expected: Reading) -> bool:
    """Whether the upstream must close for the response to be over."""
    return expected.incomplete or expected.broken in READ_ON or read_responses(data, [b"GET"], closed=False).incomplete


@pytest.mark.parametrize("split", [False, True], ids=["passed", "split"])
@pytest.mark.parametrize("family", FAMILIES)
async def test_response_is_read_as_the_rules_read_it_or_is_no_answer(family: str, split: bool) -> None:
    script = Script()
    found, seen = [], Counter[str]()
    asked = (chat() if split else b"GET /any HTTP/1.1\r\nHost: a\r\n\r\n") + LAST
    async with carrying(
        Answer(script), fallback=ONCE, upstreams=QUICK, rollout={"brake": {"enabled": False}}
    ) as carrier:
        for data, expected in readings(family)[split::2]:
            script.data, script.ends = data, needs_an_end(data, expected)
            carried = await carrier.carry(asked)
            seen["passed" if expected.broken is None else "refused"] += 1
            what = problem(expected, carried, split=split)
            if what is not None:
                found.append(f"{expected.broken}: {what}: {data[:300]!r} -> {carried.answer[:60]!r}")
    assert not found, f"{len(found)} of {seen}\n" + "\n".join(found)
    assert seen["passed"] > 5
    assert seen["refused"] > 5

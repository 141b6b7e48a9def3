"""ACCEPTANCE 34: what a client sends is read as the RFCs read it, or refused; the upstream gets nothing else.

Behind every message stands another request.  Where the message is sound, both are served, and nothing more; where it is
not, neither the rest of it nor what stands behind it reaches the upstream.
"""

import random
from collections import Counter
from functools import cache

import pytest

from tests.integration.asking import ANSWER
from tests.integration.hostile.carrier import Carried, carrying
from tests.integration.hostile.grammar import BODY, CANARY
from tests.integration.hostile.reader import (
    MAX_HEAD,
    OF_RESPONSES,
    RULES,
    Message,
    Reading,
    read_requests,
    read_responses,
)
from tests.integration.hostile.requests import CHAT, FAMILIES
from tests.support.raw_upstream import Answer, chunk

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK_HEAD, _, OK_BODY = ANSWER.partition(b"\r\n\r\n")


def answer(request: bytes) -> tuple[bytes, bool]:
    """With a length, or in chunks."""
    if request.startswith(b"HEAD "):
        return OK_HEAD + b"\r\n\r\n", False
    if request.startswith(b"POST "):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(OK_BODY) + chunk(b""), False
    return ANSWER, False


def refused(message: Message) -> bool:
    """Whether we refuse what is sound HTTP: for its Host, or as a chat that is no JSON object."""
    return message.broken is not None or (message.first == (b"POST", CHAT) and message.body != BODY)


def problem(expected: Reading, carried: Carried) -> str | None:
    """What is wrong with what came of some bytes that read so."""
    if not carried.ended:
        return "no end"
    if any("Traceback" in line or CANARY.decode() in line for line in carried.log):
        return "log"
    seen = []
    for request in carried.sent:
        read = read_requests(request)
        if read.broken is not None or len(read.messages) != 1 or read.incomplete:
            return f"upstream got a request that breaks {read.broken}"
        seen.append((*read.messages[0].first, read.messages[0].body))
    served = [message for message in expected.messages if not refused(message)]
    wanted = [(*message.first, message.body) for message in served]
    if seen != wanted:
        return f"upstream got {seen}, wanted {wanted}"
    return None if expected.incomplete else wrong_answer(expected, carried)


def wrong_answer(expected: Reading, carried: Carried) -> str | None:
    """What is wrong with what the client got, or the log."""
    methods = [message.first[0] for message in expected.messages]
    got = read_responses(carried.answer, [*methods, *([b"POST"] if expected.broken else [])])
    if got.broken or got.incomplete or got.rest:
        return f"answer {got}"
    statuses = [message.first[0][:1] for message in got.messages]
    due = [b"4" if refused(message) else b"2" for message in expected.messages]
    if statuses != due + ([b"4"] if expected.broken else []):
        return f"answered {statuses}"
    if expected.broken is not None and not got.messages[-1].last:
        return "left open"
    if CANARY in carried.answer:
        return "echo"
    pairs = zip(expected.messages, got.messages, strict=False)
    if any(message.old and reply.all(b"transfer-encoding") for message, reply in pairs):
        return "chunks for HTTP/1.0"
    if len(carried.log) != sum(message.broken is not None for message in expected.messages) + bool(expected.broken):
        return f"log {carried.log}"
    return None if carried.records == len(statuses) else f"{carried.records} records"


@cache
def readings(family: str) -> list[tuple[bytes, Reading]]:
    """What is sent on each connection, and how it reads."""
    streams = [message + LAST for message in dict.fromkeys(FAMILIES[family]())]
    return [(data, read_requests(data)) for data in streams]


@pytest.mark.parametrize("family", FAMILIES)
async def test_request_is_read_as_the_rules_read_it_or_refused(family: str) -> None:
    chance = random.Random(family)
    found, seen = [], Counter[str]()
    async with carrying(Answer(answer)) as carrier:
        for data, expected in readings(family):
            cut = 0
            if len(data) < MAX_HEAD and not any(each.broken for each in expected.messages):  # else it matters where
                cut = chance.randrange(len(data)) if chance.random() < 0.3 else 0
            carried = await carrier.carry(data, cut=cut, leave=expected.incomplete)
            seen["served" if expected.broken is None else "refused"] += 1
            what = problem(expected, carried)
            if what is not None:
                found.append(f"{expected.broken}: {what}: cut {cut}: {data[:300]!r} -> {carried.answer[:60]!r}")
    assert not found, f"{len(found)} of {seen}\n" + "\n".join(found)
    assert seen["served"] > 5
    assert seen["refused"] > 5


def test_generated_requests_break_every_rule_of_requests_and_none_too_rarely() -> None:
    """What is generated is what is promised: thousands, sound and unsound, and each rule's other side."""
    counts = Counter[str]()
    for family in FAMILIES:
        for _, reading in readings(family):
            counts[reading.broken or "sound"] += 1
            counts.update(each.broken for each in reading.messages if each.broken)
    assert sum(counts.values()) > 7_000
    assert counts["sound"] > 1_000
    assert set(RULES) - set(counts) == OF_RESPONSES

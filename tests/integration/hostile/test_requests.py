"""ACCEPTANCE 34: what a client sends is read as the RFCs read it, or refused; the upstream gets nothing else.

Behind every message stands another request.  Where the message is sound, both are served, and nothing more; where it is
not, neither the rest of it nor what stands behind it reaches the upstream.
"""

import random

import pytest

from tests.integration.asking import ANSWER
from tests.integration.hostile.carrier import Carried, carrying
from tests.integration.hostile.grammar import BODY, CANARY
from tests.integration.hostile.reader import Message, Reading, read_requests, read_responses
from tests.integration.hostile.requests import CHAT, FAMILIES
from tests.support.raw_upstream import Answer, chunk

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK_HEAD, _, OK_BODY = ANSWER.partition(b"\r\n\r\n")


def answer(request: bytes) -> bytes:
    """With a length, or in chunks."""
    if request.startswith(b"HEAD "):
        return OK_HEAD + b"\r\n\r\n"
    if request.startswith(b"POST "):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(OK_BODY) + chunk(b"")
    return ANSWER


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
    if expected.incomplete:
        return None
    methods = [message.first[0] for message in expected.messages]
    got = read_responses(carried.answer, [*methods, *([b"POST"] if expected.broken else [])])
    if got.broken or got.incomplete or got.rest:
        return f"answer {got}"
    statuses = [message.first[0][:1] for message in got.messages]
    due = [b"4" if refused(message) else b"2" for message in expected.messages]
    if statuses != due + ([b"4"] if expected.broken else []):
        return f"answered {statuses}"
    if expected.broken is not None:
        if not got.messages[-1].last:
            return "left open"
    if CANARY in carried.answer:
        return "echo"
    if any(
        message.old and answer.all(b"transfer-encoding") for message, answer in zip(expected.messages, got.messages)
    ):
        return "chunks for HTTP/1.0"
    if len(carried.log) != sum(message.broken is not None for message in expected.messages) + bool(expected.broken):
        return f"log {carried.log}"
    if carried.records != len(statuses):
        return f"{carried.records} records"
    return None


@pytest.mark.parametrize("family", FAMILIES)
async def test_request_is_read_as_the_rules_read_it_or_refused(family: str) -> None:
    chance = random.Random(family)
    found = []
    async with carrying(Answer(answer)) as carrier:
        for message in dict.fromkeys(FAMILIES[family]()):
            data = message + LAST
            expected = read_requests(data)
            cut = chance.randrange(1, len(data)) if chance.random() < 0.3 else 0
            carried = await carrier.carry(data, cut=cut, leave=expected.incomplete)
            what = problem(expected, carried)
            if what is not None:
                found.append(f"{expected.broken}: {what}: cut {cut}: {message[:300]!r} -> {carried.answer[:60]!r}")
    assert not found, f"{len(found)}\n" + "\n".join(found)

"""ACCEPTANCE 34: what a client sends is read as the RFCs read it, or refused; the upstream gets nothing else.

Behind every message stands another request.  Where the message is sound, both are served, and nothing more; where it is
not, neither the rest of it nor what stands behind it reaches the upstream.
"""

import random

import pytest

from tests.integration.asking import ANSWER
from tests.integration.hostile.carrier import Carried, carrying
from tests.integration.hostile.grammar import CANARY
from tests.integration.hostile.reader import Reading, read_requests, read_responses
from tests.integration.hostile.requests import FAMILIES
from tests.support.raw_upstream import Answer

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK_HEAD = ANSWER.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def answer(request: bytes) -> bytes:
    return OK_HEAD if request.startswith(b"HEAD ") else ANSWER


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
    wanted = [(*message.first, message.body) for message in expected.messages]
    if seen != wanted:
        return f"upstream got {seen}, wanted {wanted}"
    if expected.incomplete:
        return None
    methods = [message.first[0] for message in expected.messages]
    got = read_responses(carried.answer, [*methods, *([b"POST"] if expected.broken else [])])
    if got.broken or got.incomplete or got.rest:
        return f"answer {got}"
    statuses = [message.first[0][:1] for message in got.messages]
    if statuses != [b"2"] * len(wanted) + ([b"4"] if expected.broken else []):
        return f"answered {statuses}"
    if expected.broken is not None:
        if not got.messages[-1].last:
            return "left open"
        if CANARY in carried.answer:
            return "echo"
        if len(carried.log) != 1:
            return f"log {carried.log}"
    elif carried.log:
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

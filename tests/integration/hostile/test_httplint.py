"""ACCEPTANCE 3 to 7: every kind of message that we write, on either side, as httplint judges it.

`KNOWN` are the findings that stand, each with its reason; what is not in there, and what no longer occurs, fails.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from httplint.message import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

from tests.integration.asking import chat, chat_body
from tests.integration.hostile.reader import Message, read_requests, read_responses
from tests.support.lane import BASELINE_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Action, Close, RawUpstream, Read, Send, chunk, event_stream, head, response

JSON = b'{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"fine"}}]}'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
DATED = [("Date", "Fri, 27 Nov 2026 08:00:00 GMT"), ("Content-Type", "application/json")]


class Case(NamedTuple):
    """What is asked, and what the upstream answers; no answer: it is not asked."""

    asked: bytes
    answer: bytes = b""
    closes: bool = False


OURS = [("Connection", "close")]
CASES = {
    "json": Case(chat(headers=OURS), response(JSON, 200, DATED)),
    "events": Case(chat(chat_body(stream=True), headers=OURS), event_stream(EVENT, b"data: [DONE]\n\n")),
    "long json": Case(
        chat(headers=OURS),
        head(200, [*DATED, ("Transfer-Encoding", "chunked")]) + chunk(b" " * 1_200_000 + JSON) + chunk(b""),
    ),
    "upstream's error": Case(chat(user=BASELINE_USER, headers=OURS), response(b'{"error":{}}', 422, DATED)),
    "bad request": Case(chat(b"[]", headers=OURS)),
    "no http": Case(b"NONSENSE\r\n\r\n"),
    "method": Case(request("TRACE", "/", headers=OURS)),
    "too large": Case(chat(b" " * 9_000, headers=OURS)),
    "pass-through": Case(request("GET", "/v1/models", headers=OURS), response(b"{}", 200, DATED)),
    "upload": Case(request("POST", "/v1/files", b"x" * 300_000, OURS), response(b"{}", 200, DATED)),
    "to the end": Case(request("GET", "/v1/models", headers=OURS), head(200, DATED) + b"{}", closes=True),
    "HEAD": Case(request("HEAD", "/v1/models", headers=OURS), head(200, [*DATED, ("Content-Length", "2")])),
    "204": Case(request("DELETE", "/v1/files/x", headers=OURS), head(204, DATED[:1])),
    "304": Case(
        request("GET", "/v1/models", headers=[*OURS, ("If-None-Match", '"a"')]),
        head(304, [*DATED[:1], ("ETag", '"a"')]),
    ),
    "redirect": Case(
        request("GET", "/v1/models", headers=OURS), response(b"", 307, [*DATED, ("Location", "/v2/models")])
    ),
}
ADMIN = [
    "/livez",
    "/readyz",
    "/health",
    "/metrics",
    "/policy",
    "/assign?agent=qa_agent&user=1",
    "/",
    "/nothing",
    "/report",
]


def lint_request(message: Message) -> HttpRequestLinter:
    method, target = message.first
    linter = HttpRequestLinter()
    linter.process_request_topline(method, target, b"1.1")
    return linter


def findings(message: Message, *, of: Message | None = None) -> Iterator[str]:
    """The names of the notes that are bad or a warning."""
    linter: HttpRequestLinter | HttpResponseLinter
    if of is None:
        linter = lint_request(message)
    else:
        linter = HttpResponseLinter(_related=lint_request(of))
        linter.is_head_response = of.first[0] == b"HEAD"
        linter.process_response_topline(b"1.1", message.first[0], b"")
    linter.process_headers(message.fields)
    linter.feed_content(message.body)
    linter.finish_content(True)
    for note in linter.notes:
        if note.level in (levels.BAD, levels.WARN):
            yield type(note).__name__


# Findings that stand: where, which, and why.
KNOWN = {
    ("sent", "MISSING_USER_AGENT"): "the client's passes; a proxy that adds one would speak for somebody else",
    ("answer", "STATUS_BAD_REQUEST"): "says only that the status is 400, which is what it shall be",
    ("answer", "FRESHNESS_HEURISTIC"): "the upstream's to say: what it sends of caching passes as it is",
    (
        "answer",
        "DATE_CLOCKLESS",
    ): "the upstream's stream has none here, and a proxy need add none that it does not store",
}


@asynccontextmanager
async def proxy_of(case: Case) -> AsyncIterator[tuple[Lane, RawUpstream]]:
    script: list[Action] = [Read(), Send(case.answer), *([Close()] if case.closes else [])] if case.answer else [Read()]
    once = {"retry": {"baseline": 0}}
    async with (
        RawUpstream(script) as up,
        running(policy_of(up.url, limits={"max_body": "8KiB"}, fallback=once)) as lane,
    ):
        yield lane, up


async def answer_to(asked: bytes, host: str, port: int) -> bytes:
    async with RawClient(host, port) as client:
        await client.send(asked)
        got = b""
        while more := await client.read():
            got += more
        return got


async def test_every_kind_of_message_is_clean_but_for_what_is_known() -> None:
    met: dict[tuple[str, str], str] = {}
    for name, case in CASES.items():
        async with proxy_of(case) as (lane, up):
            got = await answer_to(case.asked, lane.host, lane.port)
        refused = Message((case.asked.split()[0], b"/"), [], b"", last=True)
        asked = [*read_requests(case.asked).messages, refused][0]
        (answer,) = read_responses(got, [asked.first[0]]).messages
        assert len(up.requests) == bool(case.answer), name
        met |= {("answer", note): name for note in findings(answer, of=asked)}
        for sent in up.requests:
            (message,) = read_requests(sent).messages
            met |= {("sent", note): name for note in findings(message)}
    async with RawUpstream([Read()]) as up, running(policy_of(up.url)) as lane:
        for target in ADMIN:
            asked_for = request("GET", target, headers=OURS)
            got = await answer_to(asked_for, lane.service.admin.host, lane.service.admin.port)
            (answer,) = read_responses(got, [b"GET"]).messages
            (asked,) = read_requests(asked_for).messages
            met |= {("admin", note): target for note in findings(answer, of=asked)}
    assert {key: place for key, place in met.items() if key not in KNOWN} == {}
    assert set(KNOWN) - set(met) == set()

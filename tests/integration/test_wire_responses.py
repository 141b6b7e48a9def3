"""ACCEPTANCE 3: status, headers and body of an upstream's response reach the client as they were sent."""

import gzip
import json
import re
from collections import Counter

import pytest

from proxy.wire.errors import bad_request
from tests.support.lane import BASELINE, FINETUNED, FINETUNED_USER
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import (
    Action,
    Close,
    Read,
    Reset,
    Send,
    Stall,
    chunk,
    event_stream,
    head,
    response,
)
from tests.support.wire import AGENT, ANSWER, CHAT, Fields, chat, wire

OWN = b"x-splitlane-"
# Described by HTTP for one connection only; all else passes.
FRAMING = {b"content-length", b"transfer-encoding", b"connection"}

VENDOR = [
    ("x-request-id", "req_1"),
    ("X-Request-ID", "req_2"),
    ("retry-after", "0.5"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("X-RateLimit-Reset-Tokens", "6ms"),
    ("mistral-correlation-id", "018f"),
    ("x-should-retry", "false"),
    ("openai-processing-ms", "7"),
    ("Set-Cookie", "__cf_bm=1; path=/; HttpOnly"),
    ("set-cookie", "_cfuvid=2; path=/, /x; Secure"),
    ("Server", "cloudflare"),
    ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Content-Type", "application/json;  charset=UTF-8"),
    ("x-empty", ""),
    ("x-comma", "a, b,,c"),
    ("X-Odd", "caf\xe9 \x80\xff"),
    ("www-authenticate", 'Bearer realm="x"'),
    ("alt-svc", 'h3=":443"'),
]
ONCE = {"fallback": {"retry": {"baseline": 0}}}  # the upstream is asked once, whatever it answers


def foreign(headers: Fields) -> Counter[tuple[bytes, bytes]]:
    """The headers that are neither ours nor framing."""
    return Counter(field for field in headers if field[0].lower() not in FRAMING and not field[0].startswith(OWN))


def own(answer: RawResponse) -> dict[str, str]:
    """Our own headers, without their prefix; each comes once."""
    fields = [(name, value) for name, value in answer.headers if name.startswith(OWN)]
    assert len(dict(fields)) == len(fields)
    return {name.removeprefix(OWN).decode(): value.decode() for name, value in fields}


def framings(body: bytes) -> dict[str, tuple[list[tuple[str, str]], bytes]]:
    """The three ways in which HTTP marks a body's end."""
    pieces = [body[start : start + 100] for start in range(0, len(body), 100)]
    return {
        "length": ([("content-length", str(len(body)))], body),
        "chunked": ([("transfer-encoding", "chunked")], b"".join(map(chunk, pieces)) + chunk(b"")),
        "close": ([], body),
    }


@pytest.mark.parametrize("status", [200, 201, 299, 301, 400, 401, 404, 409, 418, 422, 429, 451, 500, 503, 529, 599])
@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_status_headers_and_body_pass(status: int, target: str) -> None:
    body = b'{"error" : {"message":"caf\\u00e9 \\/", "code":null, "n":1.50}}\n\n'
    async with wire([Read(), Send(response(body, status, VENDOR))], **ONCE) as line:
        answer = await line.ask(chat(target=target))
        assert answer.status == status
        assert foreign(answer.headers) == Counter((name.encode(), value.encode("latin-1")) for name, value in VENDOR)
        assert answer.body == body
        assert answer.clean_end
        assert len(line.upstream.requests) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1000, 1 << 20, 3_000_000])
@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_json_of_any_size_and_framing_keeps_its_bytes(framing: str, size: int, target: str) -> None:
    body = ANSWER.replace(b'"hi"', b'"' + b"\\u00e9 \xe6\x9d\xb1 1.50 " * (size // 14) + b'"')
    fields, payload = framings(body)[framing]
    script: list[Action] = [Read(), Send(head(200, [*VENDOR, *fields]) + payload)]
    async with wire([*script, Close()] if framing == "close" else script) as line:
        answer = await line.ask(chat(target=target))
        assert (answer.status, answer.clean_end) == (200, True)
        assert answer.body == body
        assert foreign(answer.headers) == Counter((name.encode(), value.encode("latin-1")) for name, value in VENDOR)
        assert len(answer.head.all(b"content-length")) + len(answer.head.all(b"transfer-encoding")) == 1


async def test_compressed_answer_stays_compressed() -> None:
    packed = gzip.compress(ANSWER)
    fields = [("content-type", "application/json"), ("content-encoding", "gzip"), ("vary", "accept-encoding")]
    async with wire([Read(), Send(response(packed, 200, fields))]) as line:
        answer = await line.ask(chat())
        assert answer.body == packed
        assert foreign(answer.headers) == Counter((name.encode(), value.encode()) for name, value in fields)


async def test_interim_responses_are_not_the_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with wire([Read(), Send(early + response(ANSWER))]) as line:
        for _ in range(2):
            answer = await line.ask(chat())
            assert (answer.status, answer.body, answer.head.get(b"link")) == (200, ANSWER, None)
        assert len(line.upstream.connections) == 1


async def test_fragmented_response_keeps_its_bytes() -> None:
    whole = response(ANSWER, 200, VENDOR)
    async with wire([Read(), Send(whole, size=1)]) as line:
        answer = await line.ask(chat())
        assert answer.body == ANSWER
        assert foreign(answer.headers) == Counter((name.encode(), value.encode("latin-1")) for name, value in VENDOR)


async def test_headers_of_a_stream_pass_too() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    fields = [each for each in VENDOR if each[0] != "Content-Type"] + [
        ("content-type", "text/event-stream; charset=utf-8")
    ]
    stream = head(200, [*fields, ("transfer-encoding", "chunked")]) + chunk(event) + chunk(b"")
    async with wire([Read(), Send(stream)]) as line:
        answer = await line.ask(chat(b'{"model":"m","messages":[],"stream":true}'))
        assert (answer.status, answer.body, answer.clean_end) == (200, event, True)
        assert foreign(answer.headers) == Counter((name.encode(), value.encode("latin-1")) for name, value in fields)


async def test_responses_on_one_connection_do_not_mix() -> None:
    bodies = [ANSWER.replace(b"hi", b"x" * size) for size in (1, 5000, 2_000_000, 3)]
    script: list[Action] = [action for body in bodies for action in (Read(), Send(response(body)))]
    async with wire(script) as line:
        for body in bodies:
            assert (await line.ask(chat())).body == body
        assert len(line.upstream.connections) == 1


# --- what we add: DESIGN §3.4 ---------------------------------------------------------------------

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def test_own_headers_say_who_was_assigned_and_what_served() -> None:
    async with wire() as line:
        told = own(await line.ask(chat(user=FINETUNED_USER)))
        record = await line.lane.record()
        assert UUID7.fullmatch(told["request-id"])
        assert told == {
            "request-id": record.request_id,
            "agent": "qa_agent",
            "variant": "finetuned",
            "served": FINETUNED,
            "attempts": "1",
            "policy": record.policy_hash,
        }
        again = own(await line.ask(chat()))
        assert (again["variant"], again["served"]) == ("baseline", BASELINE)
        assert again["request-id"][:13] >= told["request-id"][:13]  # the milliseconds


async def test_own_headers_name_the_reason_of_a_fallback() -> None:
    async with wire([Read(), Send(response(b"{}", 500)), Read(), Send(response(ANSWER))]) as line:
        told = own(await line.ask(chat(user=FINETUNED_USER)))
        assert (told["variant"], told["served"], told["attempts"]) == ("finetuned", BASELINE, "2")
        assert told["fallback"] == "server_error"


async def test_own_headers_of_a_stream_are_those_known_at_commit() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    script: list[Action] = [Read(), Send(response(b"", 503)), Read(), Send(event_stream(event))]
    async with wire(script) as line:
        told = own(await line.ask(chat(b'{"model":"m","messages":[],"stream":true}', user=FINETUNED_USER)))
        assert (told["served"], told["attempts"], told["fallback"]) == (BASELINE, "2", "server_error")


async def test_own_headers_of_a_pass_through() -> None:
    async with wire() as line:
        told = own(await line.ask(request("GET", "/v1/models", headers=[AGENT])))
        assert (told["agent"], told["variant"], told["attempts"]) == ("qa_agent", "baseline", "1")
        assert "fallback" not in told
        told = own(await line.ask(request("GET", "/v1/models", headers=[("X-Agent", "evil\xff")])))
        assert told["agent"] == "other"


async def test_own_headers_stand_on_our_own_errors_too() -> None:
    async with wire() as line:
        told = own(await line.ask(chat(b"[]")))
        assert told["request-id"] == (await line.lane.record()).request_id
        assert (told["attempts"], told["policy"]) == ("0", line.lane.records[0].policy_hash)


@pytest.mark.parametrize("ending", [Reset(), Close()])
async def test_json_cut_short_is_no_answer(ending: Reset | Close) -> None:
    short = response(ANSWER)[:-9]
    async with wire([Read(), Send(short), ending], **ONCE) as line:
        answer = await line.ask(chat())
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "reset")


async def test_own_error_is_the_documented_object() -> None:
    async with wire() as line, RawClient(line.lane.host, line.lane.port) as other:
        await other.send(b"NONSENSE\r\n\r\n")
        answer = await other.read_response()
        assert answer.status == 400
        assert answer.body == bad_request("the request is not valid HTTP/1.1").body()
        assert await other.wait_closed() == "fin"
        assert (await line.ask(chat())).status == 200


async def test_relay_of_a_long_json_begins_before_its_end() -> None:
    body = b'{"choices":[{"message":{"content":"' + b"x" * 2_000_000
    script: list[Action] = [
        Read(),
        Send(head(200, [("content-type", "application/json"), ("content-length", "9999999")]) + body),
        Stall(),
    ]
    async with wire(script) as line:
        await line.client.send(chat())
        assert (await line.client.read_head()).get(b"content-length") == b"9999999"
        seen = b""
        while len(seen) < len(body):
            seen += await line.client.read()
        assert seen == body

"""ACCEPTANCE 5, 6 and 7: request lines, headers and framing on their way to the upstream."""

import json
from collections import Counter

import pytest

from proxy.words import Assignment
from tests.support.lane import FINETUNED_USER
from tests.support.raw_client import RawResponse, request
from tests.support.raw_upstream import Read, Send, Stall, head, response
from tests.support.wire import AGENT, ANSWER, ANSWERING, BODY, CHAT, Sent, Wire, chat, chunked, wire

BIG = b"x" * 300_000  # arrives in several pieces

# Written anew for each upstream.
REBUILT = {b"host", b"content-length", b"accept-encoding", b"authorization"}


def passed(sent: Sent) -> Counter[tuple[bytes, bytes]]:
    """The headers that came from the client."""
    return Counter(field for field in sent.headers if field[0].lower() not in REBUILT)


# --- 5: path, query, header bytes -----------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/ft%3Ax%2Fy",
        "/v1//files",
        "//v1/files",
        "/v1/%2e%2e/files",
        "/v1/../files",
        "/v1/./files",
        "/v1/files?a=%2F&b=//&c=%2e%2e&d",
        "/v1/files?",
        "/v1/files?q=a+b%20c&q=%C3%A9&&=#",
        "/v1/%zz/%",
        "/v1/fi;les=1,2/'()*!$&:@~|{}^\"<>\\`",
        "/",
        "/?x",
        "/v1/Files/%2f%2F",
        f"/v1/files/{'a' * 4000}",
    ],
)
async def test_path_and_query_keep_their_bytes(target: str) -> None:
    async with wire() as line:
        for method, body in (("GET", b""), ("POST", BODY)):
            assert (await line.ask(request(method, target, body))).status == 200
            # a fragment is no part of a request target: RFC 9112 §3.2
            assert line.sent().line == f"{method} {target} HTTP/1.1".encode()


@pytest.mark.parametrize("query", ["?api-version=2024%2F10", "?", "?a=//&b=%2e%2e&model=x"])
async def test_chat_keeps_its_query(query: str) -> None:
    async with wire() as line:
        await line.ask(chat(target=CHAT + query))
        assert line.sent().line == f"POST {CHAT}{query} HTTP/1.1".encode()
        assert (await line.lane.record()).route == "chat"


async def test_prefix_of_the_base_url_comes_first() -> None:
    async with wire() as line:
        upstreams = {"up": {"base_url": f"{line.upstream.url}/api//x%2Fy"}}
        async with wire(ANSWERING, upstreams=upstreams) as prefixed:
            await prefixed.ask(chat(target=CHAT + "?q=%2F"))
        assert line.sent().line == b"POST /api//x%2Fy/v1/chat/completions?q=%2F HTTP/1.1"


async def test_bytes_beyond_ascii_in_a_target_are_kept_or_refused() -> None:
    async with wire() as line:
        answer = await line.ask(request("GET", "/v1/files/\xe9\xff\x80?\xfe"))
        kept = [each.partition(b"\r\n")[0] for each in line.upstream.requests]
        assert (answer.status, kept) in (
            (200, [b"GET /v1/files/\xe9\xff\x80?\xfe HTTP/1.1"]),
            (400, []),
        )


ODD_HEADERS = [
    ("X-All", "".join(map(chr, range(0x80, 0x100)))),
    ("X-Utf8", "caf\xc3\xa9 \xe6\x9d\xb1"),
    ("x-case", "1"),
    ("X-Case", "2"),
    ("X-CASE", "1"),
    ("x-case", "1"),
    ("X-Empty", ""),
    ("X-Tab", "a\tb"),
    ("X-Comma", 'a, "b,c",, d'),
    ("X_under.score!#$%&'*+^`|~", "1"),
    ("User-Agent", "OpenAI/Python 3"),
    ("Accept", "application/json, text/event-stream"),
    ("Cookie", "a=1; b=2"),
    ("Cookie", "c=3"),
    ("X-Stainless-Retry-Count", "0"),
    ("X-Stainless-Read-Timeout", "600"),
    ("OpenAI-Organization", "org"),
    ("Idempotency-Key", "k"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("baggage", "user.id=u%20x,k=v;p=1"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("Via", "1.1 other"),
    ("Content-Type", "application/json; charset=utf-8"),
    ("X-Long", "y" * 8000),
]


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_headers_arrive_with_their_bytes_case_order_and_number(target: str) -> None:
    async with wire() as line:
        assert (await line.ask(chat(target=target, headers=ODD_HEADERS))).status == 200
        sent = line.sent()
        expected = [(name.encode(), value.encode("latin-1")) for name, value in ODD_HEADERS]
        assert [field for field in sent.headers if field[0].lower() not in REBUILT] == expected
        assert sent.all(b"host") == [line.upstream.url.removeprefix("http://").encode()]


async def test_credentials_are_the_upstreams() -> None:
    mine = ("Authorization", "Bearer sk-client")
    async with wire() as line:
        await line.ask(chat(headers=[mine]))
        assert line.sent().all(b"authorization") == [b"Bearer sk-upstream"]
    async with wire(upstreams={"up": {"api_key": None}}) as line:
        await line.ask(chat(headers=[mine]))
        assert line.sent().all(b"authorization") == [b"Bearer sk-client"]


@pytest.mark.parametrize("forward", [False, True])
async def test_identity_headers_reach_the_upstream_only_where_the_policy_says(forward: bool) -> None:
    async with wire(identity={"forward": forward}) as line:
        for target in (CHAT, "/v1/files"):
            await line.ask(chat(target=target))
            assert len(line.sent().all(b"x-agent")) == len(line.sent().all(b"x-user-id")) == forward


# --- 6: hop by hop --------------------------------------------------------------------------------

HOPS = [
    ("Connection", "keep-alive, X-Private"),
    ("connection", "X-Other"),
    ("X-Private", "1"),
    ("x-other", "2"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authorization", "Basic eA=="),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Connection", "keep-alive"),
    ("TE", "trailers"),
    ("Trailer", "X-Sum"),
]
GONE = {name.lower().encode() for name, _ in HOPS} | {b"upgrade", b"expect", b"transfer-encoding"}


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_hop_by_hop_headers_of_a_request_stop_here(target: str) -> None:
    async with wire() as line:
        assert (await line.ask(chat(target=target, headers=[*HOPS, ("X-Kept", "1")]))).status == 200
        assert not GONE & {name.lower() for name, _ in line.sent().headers}
        assert passed(line.sent()) == Counter({(b"X-Kept", b"1"): 1})


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_hop_by_hop_headers_of_a_response_stop_here(target: str) -> None:
    fields = [*HOPS, ("Upgrade", "h2c"), ("X-Kept", "1")]
    async with wire([Read(), Send(response(ANSWER, 200, fields))]) as line:
        answer = await line.ask(chat(target=target))
        assert not GONE & {name.lower() for name, _ in answer.headers}
        assert answer.head.all(b"x-kept") == [b"1"]
        assert (await line.ask(chat(target=target))).status == 200  # both connections live on


async def test_connection_that_lists_identity_does_not_remove_it() -> None:
    listed = [("Connection", "x-user-id, x-agent, close")]
    async with wire(identity={"forward": True}) as line:
        assert (await line.ask(chat(user=FINETUNED_USER, headers=listed))).status == 200
        record = await line.lane.record()
        assert (record.agent, record.decision.assignment) == ("qa_agent", Assignment.FINETUNED)
        assert not line.sent().all(b"x-user-id")
        assert await line.client.wait_closed() == "fin"


@pytest.mark.parametrize("listed", ["authorization", "host", "content-length", "content-type, ,", "transfer-encoding"])
async def test_connection_cannot_remove_what_the_upstream_needs(listed: str) -> None:
    async with wire() as line:
        assert (await line.ask(chat(headers=[("Connection", listed)]))).status == 200
        sent = line.sent()
        assert sent.all(b"authorization") == [b"Bearer sk-upstream"]
        assert len(sent.all(b"host")) == len(sent.all(b"content-length")) == 1
        assert json.loads(sent.body)["messages"]


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0, foo/2"])
async def test_offer_to_upgrade_is_ignored(protocol: str) -> None:
    offer = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", protocol), ("HTTP2-Settings", "AAMAAABk")]
    async with wire() as line:
        assert (await line.ask(chat(headers=offer))).status == 200
        assert json.loads(line.sent().body)["messages"]
        assert not {b"upgrade", b"http2-settings", b"connection"} & {name.lower() for name, _ in line.sent().headers}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_offer_to_upgrade_without_a_body_is_ignored(method: str) -> None:
    offer = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    async with wire([Read(), Send(response(b"" if method == "HEAD" else b"x"))]) as line:
        await line.client.send(request(method, "/v1/realtime", headers=offer))
        assert (await line.client.read_response(no_body=method == "HEAD")).status == 200
        assert not line.sent().all(b"upgrade")


async def test_client_without_accept_encoding_gets_identity() -> None:
    async with wire() as line:
        for target in (CHAT, "/v1/files"):
            await line.ask(chat(target=target))
            assert line.sent().all(b"accept-encoding") == [b"identity"]


async def test_accept_encoding_passes_where_the_answer_is_not_read() -> None:
    asked = [("Accept-Encoding", "gzip, br;q=0.5")]
    async with wire() as line:
        await line.ask(chat(target="/v1/files", headers=asked))
        assert line.sent().all(b"accept-encoding") == [b"gzip, br;q=0.5"]
        await line.ask(chat(headers=asked))
        assert line.sent().all(b"accept-encoding") == [b"identity"]


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
@pytest.mark.parametrize("body", [BODY, b'{"messages":"' + BIG + b'"}'])
async def test_expect_100_continue_works(target: str, body: bytes) -> None:
    asked = chat(body, target=target, headers=[("Expect", "100-continue")])
    opening = asked[: -len(body)]
    async with wire() as line:
        await line.client.send(opening)
        assert (await line.client.read_head()).status == 100
        await line.client.send(body)
        answer = await line.client.read_response()
        assert (answer.status, answer.body) == (200, ANSWER)
        assert not line.sent().all(b"expect")
        assert len(line.sent().body) >= len(body)


async def test_client_that_does_not_wait_for_100_is_served() -> None:
    async with wire() as line:
        for _ in range(2):
            assert (await line.ask(chat(headers=[("Expect", "100-Continue")]))).status == 200


async def test_announced_body_over_the_limit_is_refused_without_100() -> None:
    body = b"x" * 5000
    asked = chat(body, headers=[("Expect", "100-continue")])
    async with wire(limits={"max_body": "4KiB"}) as line:
        await line.client.send(asked[: -len(body)])
        assert (await line.client.read_head()).status == 413
        assert not line.upstream.requests


# --- 7: framing -----------------------------------------------------------------------------------


def framed_once(raw: bytes) -> bool:
    """Whether exactly one of the two framings stands in a head."""
    opening = raw.partition(b"\r\n\r\n")[0].lower()
    return opening.count(b"\r\ncontent-length:") + opening.count(b"\r\ntransfer-encoding:") == 1


CHUNKINGS = {
    "one": [BODY],
    "bytes": [BODY[at : at + 1] for at in range(len(BODY))],
    "two": [BODY[:20], BODY[20:]],
}


@pytest.mark.parametrize("pieces", CHUNKINGS.values(), ids=CHUNKINGS)
@pytest.mark.parametrize("size", [0, 5])
async def test_chunked_and_announced_chats_give_the_same_upstream_request(pieces: list[bytes], size: int) -> None:
    identity = [AGENT, ("X-User-Id", FINETUNED_USER), ("Content-Type", "application/json")]
    async with wire() as line:
        await line.ask(request("POST", CHAT, BODY, identity), size)
        await line.ask(chunked(CHAT, pieces, identity), size)
        announced, in_chunks = line.upstream.requests
        assert announced == in_chunks
        assert framed_once(announced)


@pytest.mark.parametrize("size", [len(BODY), 300_000])
async def test_pass_through_carries_one_framing(size: int) -> None:
    body = BODY.ljust(size, b" ")
    async with wire() as line:
        for asked in (request("POST", "/v1/files", body), chunked("/v1/files", [body[:9], body[9:]])):
            await line.ask(asked)
            assert framed_once(line.upstream.requests[-1])
            assert line.sent().body == body


async def test_extensions_and_trailers_of_chunks_end_here() -> None:
    asked = chunked(CHAT, [BODY], [AGENT, ("Trailer", "X-Sum")])
    asked = asked.replace(b"\r\n{", b";name=x\r\n{").replace(b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n")
    async with wire() as line:
        assert (await line.ask(asked)).status == 200
        assert b"X-Sum" not in line.upstream.requests[0]
        assert b"name=x" not in line.upstream.requests[0]
        assert (await line.ask(chat())).status == 200


async def both_framings(line: Wire, target: str) -> RawResponse:
    asked = chunked(target, [BODY], [AGENT, ("Content-Length", str(len(BODY)))])
    return await line.ask(asked)


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_request_with_both_framings_is_refused(target: str) -> None:
    async with wire() as line:
        assert (await both_framings(line, target)).status == 400
        assert not line.upstream.requests


async def test_response_with_both_framings_is_no_answer() -> None:
    both = head(200, [("content-length", "5"), ("transfer-encoding", "chunked")]) + b"5\r\nhello\r\n0\r\n\r\n"
    async with wire([Read(), Send(both), Stall()], fallback={"retry": {"baseline": 0}}) as line:
        answer = await line.ask(chat(target="/v1/files"))
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "bad_body")
        assert len(answer.head.all(b"content-length")) == 1
        assert not answer.head.all(b"transfer-encoding")


async def test_get_without_a_body_carries_no_framing() -> None:
    async with wire() as line:
        await line.ask(request("GET", "/v1/models"))
        assert not {b"content-length", b"transfer-encoding"} & {name.lower() for name, _ in line.sent().headers}


async def test_empty_post_says_that_it_is_empty() -> None:
    async with wire() as line:
        await line.ask(request("POST", "/v1/x", b"", [("Content-Length", "0")]))
        assert line.sent().all(b"content-length") == [b"0"]

"""ACCEPTANCE 1, 3 and 7 on every other route: bytes through, both ways, as they come."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.lane import eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Action, Close, Pause, Read, Reset, Send, Stall, chunk, head, response
from tests.support.wire import AGENT, ANSWER, BODY, CHAT, chat, chunked, parse, wire

LARGE = bytes(range(256)) * 4096 * 8  # 8 MiB of every byte
PIECE = 100_003


def pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


# --- uploads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_upload_keeps_its_bytes(framing: str) -> None:
    fields = [("Content-Type", "multipart/form-data; boundary=x"), AGENT]
    if framing == "length":
        asked = request("POST", "/v1/files", LARGE, fields)
    else:
        asked = chunked("/v1/files", list(pieces(LARGE)), fields)
    async with wire() as line:
        answer = await line.ask(asked, size=PIECE)
        assert (answer.status, answer.body) == (200, ANSWER)
        sent = line.sent()
        assert sent.body == LARGE
        expected = ([b"%d" % len(LARGE)], []) if framing == "length" else ([], [b"chunked"])
        assert (sent.all(b"content-length"), sent.all(b"transfer-encoding")) == expected
        assert (await line.ask(chat())).status == 200  # the connection lives on


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_upload_reaches_the_upstream_before_it_is_complete(framing: str) -> None:
    body = b"x" * 1000
    whole = (
        request("POST", "/v1/files", body) if framing == "length" else chunked("/v1/files", [body[:400], body[400:]])
    )
    cut = whole.index(b"x" * 400) + 400
    async with wire() as line:
        await line.client.send(whole[:cut])
        await eventually(
            lambda: bool(line.upstream.connections) and body[:400] in line.upstream.connections[0].received
        )
        assert not line.upstream.requests
        await line.client.send(whole[cut:])
        assert (await line.client.read_response()).status == 200
        assert line.sent().body == body


async def test_upload_larger_than_the_chat_limit_streams() -> None:
    async with wire(limits={"max_body": "64KiB", "max_buffered": "64KiB"}) as line:
        assert (await line.ask(request("POST", "/v1/files", LARGE))).status == 200
        assert line.sent().body == LARGE


async def sent_within(client: RawClient, data: bytes, seconds: float) -> bool:
    """Send, and tell whether there was room for it in time."""
    try:
        async with asyncio.timeout(seconds):
            await client.send(data)
    except TimeoutError:
        return False
    return True


async def test_upload_is_not_read_faster_than_the_upstream_takes_it() -> None:
    async def read_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await done.wait()
        writer.transport.abort()

    done, most, taken = asyncio.Event(), 64 << 20, 0
    server = await asyncio.start_server(read_the_head, "127.0.0.1", 0, limit=4096)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, running(policy_of(url)) as lane, RawClient(lane.host, lane.port) as client:
        await client.send(request("POST", "/v1/files", headers=[("Content-Length", str(1 << 30))]))
        while taken < most and await sent_within(client, bytes(1 << 18), 0.5):
            taken += 1 << 18
        client.reset()
        done.set()
    assert taken < most  # the kernel's buffers and ours, and no more


@pytest.mark.parametrize("sends_on", [False, True])
async def test_answer_before_the_upload_is_complete_is_the_answer(sends_on: bool) -> None:
    early = response(b'{"error":{"message":"too large"}}', 413)
    async with wire([Read(body=False), Send(early), Pause(0.1), Close()]) as line:
        await line.client.send(request("POST", "/v1/files", headers=[("Content-Length", "1000000")]) + b"x" * 1000)
        await eventually(lambda: bool(line.upstream.requests))
        if sends_on:
            await asyncio.sleep(0.05)
            await line.client.send(b"x" * 1000)
        answer = await line.client.read_response()
        assert (answer.status, answer.body) == (413, b'{"error":{"message":"too large"}}')
        assert answer.head.get(b"connection") == b"close"  # the rest of the body is not a request


async def test_early_answer_is_not_cut_by_the_uploads_time_limit() -> None:
    """`request_body` bounds the waiting for a body, and nobody waits for it any more."""
    drip = [action for _ in range(6) for action in (Send(chunk(b"x")), Pause(0.1))]
    opening = Send(head(200, [("transfer-encoding", "chunked")]))
    script = [Read(body=False), opening, *drip, Send(chunk(b"")), Stall()]
    async with wire(script, limits={"request_body": "200ms"}) as line:
        await line.client.send(request("POST", "/v1/x", headers=[("Content-Length", "1000000")]) + b"x" * 1000)
        await eventually(lambda: bool(line.upstream.requests))
        await line.client.send(b"x")
        answer = await line.client.read_response()
        assert (answer.body, answer.clean_end) == (b"xxxxxx", True)


# --- downloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_large_download_keeps_its_bytes(framing: str) -> None:
    fields = [("content-type", "application/octet-stream")]
    if framing == "length":
        payload = head(200, [*fields, ("content-length", str(len(LARGE)))]) + LARGE
    elif framing == "chunked":
        payload = (
            head(200, [*fields, ("transfer-encoding", "chunked")]) + b"".join(map(chunk, pieces(LARGE))) + chunk(b"")
        )
    else:
        payload = head(200, fields) + LARGE
    async with wire([Read(), Send(payload), *([Close()] if framing == "close" else [])]) as line:
        answer = await line.ask(request("GET", "/v1/files/f/content"))
        assert (answer.status, answer.body, answer.clean_end) == (200, LARGE, True)
        announced = answer.head.get(b"content-length")
        assert announced == (b"%d" % len(LARGE) if framing == "length" else None)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_download_is_forwarded_before_it_is_complete(framing: str) -> None:
    if framing == "length":
        opening = head(200, [("content-length", "1000")]) + b"first"
    else:
        opening = head(200, [("transfer-encoding", "chunked")]) + chunk(b"first")
    async with wire([Read(), Send(opening), Stall(), Close()]) as line:
        await line.client.send(request("GET", "/v1/files/f/content"))
        await line.client.read_head()
        seen = b""
        while b"first" not in seen:
            seen += await line.client.read()


@pytest.mark.parametrize("ending", [Close(), Reset()])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_download_that_breaks_is_visibly_short(framing: str, ending: Close | Reset) -> None:
    if framing == "length":
        opening = head(200, [("content-length", "1000")]) + b"first"
    else:
        opening = head(200, [("transfer-encoding", "chunked")]) + chunk(b"first")
    async with wire([Read(), Send(opening), Pause(0.05), ending]) as line:
        answer = await line.ask(request("GET", "/v1/files/f/content"))
        assert (answer.body, answer.clean_end) == (b"first", False)


# --- methods and answers without a body -----------------------------------------------------------


@pytest.mark.parametrize("length", ["0", "123456"])
async def test_head_has_the_length_and_no_body(length: str) -> None:
    fields = [("content-type", "application/json"), ("content-length", length), ("etag", '"x"')]
    async with wire([Read(), Send(head(200, fields))]) as line:
        for _ in range(2):
            await line.client.send(request("HEAD", "/v1/models"))
            answer = await line.client.read_response(no_body=True)
            assert (answer.status, answer.head.all(b"content-length"), answer.head.get(b"etag")) == (
                200,
                [length.encode()],
                b'"x"',
            )
            assert line.sent().line == b"HEAD /v1/models HTTP/1.1"
        assert await line.client.read_until_idle(0.05) == b""


@pytest.mark.parametrize("opening", [head(200, [("transfer-encoding", "chunked")]), head(404, [])])
async def test_head_without_a_length_has_no_body(opening: bytes) -> None:
    async with wire([Read(), Send(opening)]) as line:
        for _ in range(2):
            await line.client.send(request("HEAD", "/v1/models"))
            answer = await line.client.read_response(no_body=True)
            assert answer.status in (200, 404)
            assert not answer.head.all(b"content-length")
        assert await line.client.read_until_idle(0.05) == b""


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_answer_without_a_body_ends_at_its_head(status: int, method: str) -> None:
    async with wire([Read(), Send(head(status, [("etag", '"x"'), ("cache-control", "no-store")]))]) as line:
        for _ in range(2):
            answer = await line.ask(request(method, "/v1/files/f", BODY if method == "POST" else b""))
            assert (answer.status, answer.body, answer.head.get(b"etag")) == (status, b"", b'"x"')
            assert not answer.head.all(b"content-length")
            assert not answer.head.all(b"transfer-encoding")
        assert len(line.upstream.connections) == 1
        assert await line.client.read_until_idle(0.05) == b""


async def test_length_of_what_was_not_modified_passes() -> None:
    """RFC 9110 §8.6: on a 304 it is the length of the answer a 200 would have had."""
    async with wire([Read(), Send(head(304, [("content-length", "1234"), ("etag", '"x"')]))]) as line:
        for _ in range(2):
            answer = await line.ask(request("GET", "/v1/files/f", headers=[("If-None-Match", '"x"')]))
            assert (answer.status, answer.body) == (304, b"")
            assert answer.head.all(b"content-length") in ([b"1234"], [])
            assert not answer.head.all(b"transfer-encoding")
        assert line.sent().all(b"if-none-match") == [b'"x"']


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("body", [b"", BODY])
async def test_every_method_passes_with_and_without_a_body(method: str, body: bytes) -> None:
    async with wire() as line:
        assert (await line.ask(request(method, "/v1/files/f", body))).body == ANSWER
        assert line.sent().line == f"{method} /v1/files/f HTTP/1.1".encode()
        assert line.sent().body == body
        assert (await line.lane.record()).route == "passthrough"


async def test_redirect_is_passed_on_and_followed_by_nobody() -> None:
    moved = response(b"", 307, [("location", "http://127.0.0.1:1/v1/files")])
    async with wire([Read(), Send(moved)]) as line:
        answer = await line.ask(request("GET", "/v1/files"))
        assert (answer.status, answer.head.get(b"location")) == (307, b"http://127.0.0.1:1/v1/files")
        assert len(line.upstream.requests) == 1


# --- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "upstreams", "agent", "route"),
    [
        ("/agents/qa_agent/v1/chat/completions", CHAT, "qa_agent", "chat"),
        ("/agents/qa_agent/v1/chat/completions?a=%2F", CHAT + "?a=%2F", "qa_agent", "chat"),
        ("/agents/qa_agent/v1/models", "/v1/models", "qa_agent", "passthrough"),
        ("/agents/qa_agent/v1//x/%2e%2e", "/v1//x/%2e%2e", "qa_agent", "passthrough"),
        ("/agents/qa_agent/", "/", "qa_agent", "passthrough"),
        ("/agents/nobody/v1/models", "/v1/models", "other", "passthrough"),
        ("/agents/nobody/v1/chat/completions", CHAT, "other", "chat"),
        ("/agents/qa_agent", "/agents/qa_agent", "other", "passthrough"),
        ("/agents//v1/models", "/agents//v1/models", "other", "passthrough"),
        ("/agents?x=/v1/models", "/agents?x=/v1/models", "other", "passthrough"),
        ("/agents/a?b/v1/models", "/agents/a?b/v1/models", "other", "passthrough"),
        ("/v1/agents/qa_agent/v1/models", "/v1/agents/qa_agent/v1/models", "other", "passthrough"),
    ],
)
async def test_agents_prefix_names_the_agent_and_is_removed(
    target: str, upstreams: str, agent: str, route: str
) -> None:
    async with wire() as line:
        assert (await line.ask(request("POST", target, BODY))).status == 200
        assert line.sent().line == f"POST {upstreams} HTTP/1.1".encode()
        record = await line.lane.record()
        assert (record.agent, record.route) == (agent, route)


async def test_header_wins_over_the_path_and_the_prefix_goes_anyway() -> None:
    agents = {"legal_agent": {"fine_tuned": "ft:legal", "fallback": "base-legal"}}
    async with wire(agents=agents) as line:
        await line.ask(chat(target="/agents/qa_agent" + CHAT, agent="legal_agent"))
        assert line.sent().line == f"POST {CHAT} HTTP/1.1".encode()
        assert b"base-legal" in line.sent().body


async def test_other_routes_go_to_the_agents_baseline_upstream() -> None:
    async with wire() as second:
        extra = {"second": {"base_url": second.upstream.url, "dialect": "openai", "api_key": "sk-second"}}
        agents = {"qa_agent": {"fallback": {"upstream": "second", "model": "base"}}}
        async with wire(upstreams=extra, agents=agents) as line:
            await line.ask(request("GET", "/v1/models", headers=[AGENT]))
            await line.ask(request("GET", "/v1/models"))
            assert [parse(each).all(b"authorization") for each in second.upstream.requests] == [[b"Bearer sk-second"]]
            assert [parse(each).all(b"authorization") for each in line.upstream.requests] == [[b"Bearer sk-upstream"]]


async def test_error_of_another_route_passes_and_is_not_retried() -> None:
    async with wire([Read(), Send(response(b"busy", 503, [("retry-after", "3")]))]) as line:
        answer = await line.ask(request("GET", "/v1/models", headers=[AGENT]))
        assert (answer.status, answer.body, answer.head.get(b"retry-after")) == (503, b"busy", b"3")
        assert len(line.upstream.requests) == 1


async def test_stale_connection_is_resent_once_on_a_fresh_one() -> None:
    ok = response(ANSWER)
    scripts: dict[int, list[Action]] = {1: [Read(), Send(ok), Read(), Reset()], 2: [Read(), Send(ok)]}
    async with wire(lambda number: scripts[number]) as line:
        for _ in range(2):
            assert (await line.ask(request("GET", "/v1/models"))).body == ANSWER
        assert len(line.upstream.connections) == 2


async def test_pipelined_requests_are_answered_in_order() -> None:
    script: list[Action] = [action for each in (b"1", b"2", b"3") for action in (Read(), Send(response(each)))]
    async with wire(script) as line, RawClient(line.lane.host, line.lane.port) as client:
        await client.send(b"".join(request("GET", f"/v1/{number}") for number in (1, 2, 3)))
        assert [(await client.read_response()).body for _ in range(3)] == [b"1", b"2", b"3"]

"""What raw clients see of the stub: HTTP, faults on the socket, the log."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from proxy.stub import Stub, StubConfig
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import chunk

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
STREAM = CHAT[:-1] + b',"stream":true}'


def connect(stub: Stub, **options: Any) -> RawClient:
    return RawClient(stub.config.host, stub.port, **options)


def ask(body: bytes = CHAT, fault: str = "") -> bytes:
    return request("POST", "/v1/chat/completions", body, [("x-stub-fault", fault)] if fault else [])


async def call(stub: Stub, data: bytes) -> RawResponse:
    async with connect(stub) as client:
        await client.send(data)
        return await client.read_response()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.005)


async def test_connection_is_kept_and_requests_are_answered_in_order() -> None:
    async with Stub() as stub, connect(stub) as client:
        await client.send(ask() + ask(STREAM) + request("GET", "/v1/models"))
        first, second, third = [await client.read_response() for _ in range(3)]
        assert json.loads(first.body)["object"] == "chat.completion"
        assert second.body.endswith(b"data: [DONE]\n\n")
        assert json.loads(third.body)["object"] == "list"
        assert stub.accepted == stub.connections == 1
        assert [each.connection for each in stub.calls] == [1, 1, 1]


async def test_request_is_logged_byte_for_byte() -> None:
    body = b'{ "messages" : [], "x": 1e400, "n": 12345678901234567890, "model" : "m\\u00e9" }'
    raw = (
        b"POST /pre%%2Ffix//v1/chat/completions?a=%%20b HTTP/1.1\r\nHost: x\r\nX-oDD: \xe9 1\r\nx-odd: 2\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    async with Stub() as stub:
        assert (await call(stub, raw)).status == 200
        logged = stub.calls[0]
    assert logged.target == b"/pre%2Ffix//v1/chat/completions?a=%20b"
    assert logged.headers[:3] == ((b"Host", b"x"), (b"X-oDD", b"\xe9 1"), (b"x-odd", b"2"))
    assert logged.body == body
    assert logged.model == "mé"
    assert logged.all_headers("X-Odd") == ["é 1", "2"]


async def test_chunked_body_in_fragments() -> None:
    raw = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += chunk(CHAT[:9]) + chunk(CHAT[9:]) + b"0\r\n\r\n"
    async with Stub() as stub, connect(stub) as client:
        await client.send(raw, size=3)
        assert (await client.read_response()).status == 200
        assert stub.calls[0].body == CHAT


async def test_expect_100_continue_is_answered_before_the_body() -> None:
    head, _, body = ask().partition(b"\r\n\r\n")
    async with Stub() as stub, connect(stub) as client:
        await client.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.read_head()).status == 100
        await client.send(body)
        assert (await client.read_response()).status == 200


async def test_http_1_0_and_connection_close_end_the_connection() -> None:
    async with Stub() as stub:
        for raw in (
            ask(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"),
            ask().replace(b"Host: localhost", b"Connection: close"),
        ):
            async with connect(stub) as client:
                await client.send(raw)
                answer = await client.read_response()
                assert answer.clean_end
                assert answer.head.get(b"connection") == b"close"
                assert await client.wait_closed() == "fin"


async def test_head_has_no_body() -> None:
    async with Stub() as stub, connect(stub) as client:
        await client.send(request("HEAD", "/v1/models"))
        assert (await client.read_response(no_body=True)).status == 200
        await client.send(ask())
        assert (await client.read_response()).status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (request("GET", "/favicon.ico"), 404),
        (request("GET", "/v1/chat/completions"), 405),
        (request("POST", "/v1/chat/completions", b"[1]"), 400),
        (request("POST", "/v1/chat/completions", b"[" * 100_000), 400),
        (request("POST", "/v1/chat/completions", b'{"model": "\xff"}'), 400),
        (request("POST", "/v1/chat/completions", b"x" * 2000), 413),
    ],
)
async def test_bad_requests_are_refused(raw: bytes, status: int) -> None:
    async with Stub(StubConfig(max_body=1000 if status == 413 else 1 << 20)) as stub:
        assert (await call(stub, raw)).status == status


async def test_hostile_model_name_is_answered() -> None:
    body = b'{"model":"\\ud800\\u0000","messages":[{"role":"user","content":["x",{"text":1},null,3]}]}'
    async with Stub() as stub:
        for raw in (ask(body), ask(body[:-1] + b',"stream":true}')):
            assert (await call(stub, raw)).clean_end


async def test_unused_upgrade_is_answered_and_closed() -> None:
    raw = request("GET", "/v1/models", headers=[("Connection", "Upgrade"), ("Upgrade", "h2c")])
    async with Stub() as stub, connect(stub) as client:
        await client.send(raw)
        assert (await client.read_response()).status == 200
        assert await client.wait_closed() == "fin"


async def test_pipelining_without_end_is_refused() -> None:
    async with Stub(StubConfig(faults={"*": "slow=5"})) as stub, connect(stub) as client:
        await client.send(request("GET", "/v1/models") * 100)
        await until(lambda: len(stub.calls) == 1)
        assert stub.connections == 1


@pytest.mark.parametrize(("fault", "ending"), [("cut=2", "fin"), ("cut_reset=2", "rst")])
@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_answer_ends_in_the_middle(fault: str, ending: str, body: bytes) -> None:
    async with Stub() as stub, connect(stub) as client:
        await client.send(ask(body, fault))
        answer = await client.read_response()
        assert answer.status == 200
        assert not answer.clean_end
        assert answer.body.count(b'"content":" from"') == (body is STREAM)
        if ending == "fin":
            assert await client.wait_closed() == "fin"
        logged = stub.calls[0]
        assert (logged.finished, logged.client_gone_at, str(logged.fault)) == (False, None, fault)


@pytest.mark.parametrize("fault", ["reset", "refuse"])
async def test_reset_comes_before_the_headers(fault: str) -> None:
    async with Stub() as stub, connect(stub) as client:
        await client.send(ask(fault=fault))
        assert await client.wait_closed() == "rst"


@pytest.mark.parametrize("rst", [False, True])
@pytest.mark.parametrize(
    ("body", "fault", "head"),
    [(CHAT, "silence", False), (CHAT, "slow=9", False), (STREAM, "stall=2", True), (CHAT, "stall=0", True),
     (STREAM, "drip=0.05", True), (STREAM, "slow_first=9", True)],
)  # fmt: skip
async def test_client_that_leaves_is_logged_at_once(body: bytes, fault: str, head: bool, rst: bool) -> None:
    async with Stub() as stub, connect(stub) as client:
        await client.send(ask(body, fault))
        if head:
            assert (await client.read_head()).status == 200
        else:
            assert await client.read_until_idle(0.05) == b""
        await until(lambda: stub.calls)
        logged = stub.calls[0]
        assert logged.client_gone_at is None
        left = time.time()
        if rst:
            client.reset()
        else:
            await client.close()
        await until(lambda: logged.state.ended_at)
        assert 0 <= (logged.client_gone_at or 0) - left < 1
        assert not logged.finished


async def test_client_that_leaves_after_the_answer_is_not_gone() -> None:
    async with Stub() as stub:
        await call(stub, ask(STREAM))
        await until(lambda: not stub.connections)
        assert stub.calls[0].finished
        assert stub.calls[0].client_gone_at is None


@pytest.mark.parametrize(
    ("fault", "content_type", "body"),
    [
        ("null", b"application/json", b"null"),
        ("not_json", b"text/html", b"<html>"),
        ("error_200", b"application/json", b'{"error":'),
        ("status=200,body={a,b}", b"application/json", b"{a,b}"),
        ("body=hello", b"application/json", b"hello"),
    ],
)
@pytest.mark.parametrize("request_body", [CHAT, STREAM])
async def test_success_with_a_bad_body(fault: str, content_type: bytes, body: bytes, request_body: bytes) -> None:
    async with Stub() as stub:
        answer = await call(stub, ask(request_body, fault))
    assert (answer.status, answer.head.get(b"content-type")) == (200, content_type)
    assert answer.body.startswith(body)


async def test_empty_answers() -> None:
    async with Stub() as stub:
        none = json.loads((await call(stub, ask(fault="empty"))).body)
        assert none["choices"] == []
        silent = json.loads((await call(stub, ask(fault="empty=content"))).body)
        assert silent["choices"][0]["message"]["content"] == ""
        unbilled = json.loads((await call(stub, ask(fault="no_usage"))).body)
        assert "usage" not in unbilled


async def test_delays_are_where_they_should_be() -> None:
    async with Stub() as stub, connect(stub) as client:
        begun = time.time()
        await client.send(ask(STREAM, "slow=0.1"))
        await client.read_head()
        assert time.time() - begun >= 0.1
        await client.read_until_idle(0.05)
        await client.send(ask(STREAM, "slow_first=0.1,comments=2"))
        answer = await client.read_response()
        assert answer.pieces[2].time - answer.pieces[1].time >= 0.09
        await client.send(ask(STREAM, "drip=0.01"))
        times = [piece.time for piece in (await client.read_response()).pieces]
        assert len(times) == 15
        assert times[-1] - times[0] >= 0.1


async def test_pace_of_the_config() -> None:
    async with Stub(StubConfig(latency=0.05, tokens_per_second=100)) as stub:
        for body in (CHAT, STREAM):
            begun = time.time()
            await call(stub, ask(body))
            assert 0.15 < time.time() - begun < 5


async def test_faults_by_model_and_for_the_next_calls() -> None:
    async with Stub(StubConfig(faults={"ft:*": "status=500"})) as stub:
        tuned = ask(CHAT.replace(b'"m"', b'"ft:x"'))
        assert (await call(stub, tuned)).status == 500
        assert (await call(stub, ask())).status == 200
        stub.set_fault("*", "status=429,count=2")
        assert [(await call(stub, ask())).status for _ in range(3)] == [429, 429, 200]
        stub.clear_faults()
        assert (await call(stub, tuned)).status == 200


async def test_bad_spec_in_the_header_is_explained() -> None:
    async with Stub() as stub:
        answer = await call(stub, ask(fault="sttaus=500"))
    assert answer.status == 400
    assert b"did you mean status?" in answer.body


async def test_refused_connections_and_the_same_port_again() -> None:
    async with Stub() as stub, connect(stub) as kept:
        await stub.pause_listening()
        with pytest.raises(ConnectionRefusedError):
            await call(stub, ask())
        await kept.send(ask())
        assert (await kept.read_response()).status == 200
        port = stub.port
        await stub.resume_listening()
        assert stub.port == port
        assert (await call(stub, ask())).status == 200
        await stub.pause_listening(drop=True)
        assert await kept.wait_closed() == "rst"


@pytest.mark.parametrize(("rst", "ending"), [(False, "fin"), (True, "rst")])
async def test_idle_connections_can_be_closed(rst: bool, ending: str) -> None:
    async with Stub() as stub, connect(stub) as client:
        await client.send(ask())
        await client.read_response()
        await stub.close_connections(reset=rst)
        assert stub.connections == 0
        assert await client.wait_closed() == ending


async def test_log_and_faults_are_served_to_users_outside() -> None:
    async with Stub() as stub:
        added = await call(stub, request("POST", "/stub/faults", b'{"ft:*":"reset","*":"status=503,count=1"}'))
        assert json.loads(added.body) == [
            {"model": "ft:*", "fault": "model=ft:*,reset"},
            {"model": "*", "fault": "count=1,status=503"},
        ]
        assert (await call(stub, ask())).status == 503
        calls = json.loads((await call(stub, request("GET", "/stub/calls"))).body)
        assert len(calls) == 1
        assert calls[0]["model"] == "m"
        assert calls[0]["finished"] is True
        assert json.loads(calls[0]["body"]) == json.loads(CHAT)
        for bad in (b"{", b"[]", b'{"m":1}', b'{"m":"cut"}'):
            assert (await call(stub, request("POST", "/stub/faults", bad))).status == 400
        assert json.loads((await call(stub, request("DELETE", "/stub/faults"))).body) == []
        assert (await call(stub, request("GET", "/stub/faults"))).body == b"[]"
        assert (await call(stub, request("DELETE", "/stub/calls"))).status == 200
        assert stub.calls == []
        assert (await call(stub, request("GET", "/stub/else"))).status == 404


async def test_log_is_bounded_by_number_and_by_bytes() -> None:
    async with Stub(StubConfig(max_calls=3)) as stub, connect(stub) as client:
        for _ in range(5):
            await client.send(ask())
            await client.read_response()
        assert [each.number for each in stub.calls] == [3, 4, 5]
    async with Stub(StubConfig(max_log=len(CHAT))) as stub, connect(stub) as client:
        for _ in range(3):
            await client.send(ask())
            await client.read_response()
        assert [each.number for each in stub.calls] == [3]


async def test_reader_that_stops_makes_the_stub_wait() -> None:
    long = STREAM.replace(b'"hi"', b'"in 100000 words"')
    async with Stub() as stub, connect(stub, receive_buffer=4096) as client:
        await client.send(ask(long))
        await client.read_head()
        await until(lambda: stub.calls)
        state, before = stub.calls[0].state, -1
        async with asyncio.timeout(20):
            while before != state.chunks:
                before = state.chunks
                await asyncio.sleep(0.3)
        assert 0 < state.chunks < 90_000
        assert not state.finished


async def test_leaving_the_stub_ends_what_is_running() -> None:
    async with Stub() as stub:
        client = connect(stub)
        async with client:
            await client.send(ask(fault="silence"))
            await until(lambda: stub.calls)
            await stub.close()
            assert await client.wait_closed() == "rst"
    assert stub.calls[0].client_gone_at is None
    assert stub.calls[0].state.ended_at

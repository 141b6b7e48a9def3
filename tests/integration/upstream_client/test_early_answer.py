"""An upstream that answers before it has read the request: its word is not lost to our writing."""

import asyncio

import pytest

from tests.support.lane import BASELINE_USER, eventually, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import Close, Pause, RawUpstream, Read, Send, Stall
from tests.support.rescue import ANSWER, OK, ask

REFUSAL = b'{"error":{"message":"too large","type":"x","param":null,"code":null}}'
EARLY = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(REFUSAL) + REFUSAL
# More than all socket buffers on the way take.
SIZE = 12_000_000
LONG_BODY = b'{"messages":[{"role":"user","content":"' + b"x" * SIZE + b'"}]}'


async def test_early_answer_to_a_long_chat_reaches_the_client() -> None:
    """ACCEPTANCE 12."""
    async with RawUpstream([Read(body=False), Send(EARLY), Pause(0.3), Close()]) as up:
        async with running(policy_of(up.url)) as lane:
            answer = await ask(lane, LONG_BODY, user=BASELINE_USER)
        assert len(up.connections) == 1
    assert (answer.status, answer.body) == (413, REFUSAL)


@pytest.mark.parametrize(
    "framing", [("Content-Length", str(SIZE)), ("Transfer-Encoding", "chunked")], ids=["length", "chunked"]
)
@pytest.mark.parametrize("pieces", [1, 20], ids=["waits", "goes-on"])
async def test_early_answer_to_an_upload_reaches_the_client(framing: tuple[str, str], pieces: int) -> None:
    """ACCEPTANCE 12: also where the client sends no more until it has seen it."""
    async with RawUpstream([Read(body=False), Send(EARLY), Pause(0.3), Close()]) as up:
        async with running(policy_of(up.url)) as lane, RawClient(lane.host, lane.port, timeout=1.5) as client:
            await client.send(request("POST", "/v1/files", headers=[framing]))
            piece = b"x" * 10_000
            for _ in range(pieces):
                await client.send(b"2710\r\n%b\r\n" % piece if framing[1] == "chunked" else piece)
                await asyncio.sleep(0.02)
            answer = await client.read_response()
        assert len(up.connections) == 1
    assert (answer.status, answer.body) == (413, REFUSAL)


async def test_connection_with_an_unread_request_is_not_used_again() -> None:
    """What the upstream has not read of one request, it would take for the next one."""
    async with RawUpstream([Read(body=False), Send(OK), Stall()]) as up:
        async with running(policy_of(up.url)) as lane:
            for _ in range(2):
                assert (await ask(lane, LONG_BODY, user=BASELINE_USER)).body == ANSWER
                await eventually(lambda: up.connections[-1].closed_at is not None)
        assert len(up.connections) == 2

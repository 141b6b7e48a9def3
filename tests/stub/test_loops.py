"""The stub on uvloop, whose transports differ from asyncio's where faults touch them; and behind TLS."""

import asyncio
import ssl

import openai
import pytest
import trustme
import uvloop

from proxy.stub import Stub, StubConfig
from tests.support.raw_client import RawClient, request

BODY = b'{"model":"m","stream":true,"messages":[]}'


async def read_through(fault: str) -> tuple[bytes, str]:
    """What a client gets of a stream under a fault, and how the connection ends."""
    async with Stub() as stub, RawClient(stub.config.host, stub.port) as client:
        await client.send(request("POST", "/v1/chat/completions", BODY, [("x-stub-fault", fault)]))
        got = await client.read_until_idle()
        return got, "open" if stub.connections else await client.wait_closed()


@pytest.mark.parametrize(("fault", "words", "ending"), [("cut=2", 2, "fin"), ("stall=3", 3, "open")])
def test_faults_on_uvloop(fault: str, words: int, ending: str) -> None:
    got, ended = uvloop.run(read_through(fault))
    assert got.count(b'"delta":{"content":') == words
    assert ended == ending


async def reset_twice() -> list[str]:
    async with Stub() as stub:
        endings = []
        for fault in ("reset", "cut_reset=1"):
            async with RawClient(stub.config.host, stub.port) as client:
                await client.send(request("POST", "/v1/chat/completions", BODY, [("x-stub-fault", fault)]))
                endings.append(await client.wait_closed())
        await stub.pause_listening(drop=True)
        with pytest.raises(ConnectionRefusedError):
            await RawClient(stub.config.host, stub.port).__aenter__()
        await stub.resume_listening()
        async with RawClient(stub.config.host, stub.port) as client:
            await client.send(request("GET", "/v1/models"))
            assert (await client.read_response()).status == 200
            await client.send(request("POST", "/v1/chat/completions", BODY, [("x-stub-fault", "silence")]))
            while len(stub.calls) < 4:
                await asyncio.sleep(0.005)
            client.reset()
            while stub.connections:
                await asyncio.sleep(0.005)
        assert stub.calls[-1].client_gone_at
        return endings


def test_resets_and_a_paused_listener_on_uvloop() -> None:
    assert uvloop.run(reset_twice()) == ["rst", "rst"]


async def test_stub_behind_tls() -> None:
    authority = trustme.CA()
    server, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    async with Stub(StubConfig(tls=server, faults={"dead": "reset"})) as stub:
        http = openai.DefaultAsyncHttpxClient(verify=trusting)
        async with openai.AsyncOpenAI(
            base_url=f"{stub.url}/v1", api_key="k", max_retries=0, http_client=http
        ) as client:
            answer = await client.chat.completions.create(model="m", messages=[])
            assert answer.model == "m"
            with pytest.raises(openai.APIConnectionError):
                await client.chat.completions.create(model="dead", messages=[])

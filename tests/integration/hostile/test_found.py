"""What the generated messages have found, each by name."""

import pytest

from tests.integration.asking import ANSWER
from tests.support.lane import policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import RawUpstream, Read, Send

KEPT = b"Host: a\r\nConnection: keep-alive\r\n\r\n"


async def all_of(data: bytes, upstream_answer: bytes = ANSWER) -> tuple[list[bytes], bytes]:
    """What the upstream and the client have got, once the proxy has closed."""
    async with RawUpstream([Read(), Send(upstream_answer)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port) as client:
            await client.send(data)
            got = b""
            while more := await client.read():
                got += more
        await lane.idle()
        return up.requests, got


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b"", b"HTTP/1.1"])
async def test_other_version_is_refused_though_it_keeps_its_connection_alive(version: bytes) -> None:
    sent, got = await all_of(b"GET /x%b\r\n" % version + KEPT)
    assert sent == []
    assert got.startswith(b"HTTP/1.1 400 ")

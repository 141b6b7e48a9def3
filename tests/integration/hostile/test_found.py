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


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://b", b"/"),
        (b"http://b?a=/c", b"/?a=/c"),
        (b"HTTPS://b:1?", b"/?"),
        (b"http://b/c?d=http://e/f", b"/c?d=http://e/f"),
        (b"http:///c", None),
        (b"http://?c", None),
        (b"http://b#/c", None),
        (b"httpx://b/c", None),
    ],
)
async def test_absolute_target_gives_the_path_and_query_that_it_has(target: bytes, path: bytes | None) -> None:
    """RFC 9112 §3.2.2; an empty host is none: RFC 9110 §4.2.1."""
    sent, got = await all_of(b"GET %b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n" % target)
    assert [each.split(b" ")[1] for each in sent] == ([] if path is None else [path])
    assert got.startswith(b"HTTP/1.1 400 " if path is None else b"HTTP/1.1 200 ")

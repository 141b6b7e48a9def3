"""Names and addresses of an upstream.

ACCEPTANCE 10, 39 and point 6 of the issue.  `getaddrinfo` is the one thing replaced here: a test
cannot bring its own name server.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.stub import Stub, StubConfig
from tests.support.deaf import deaf_listener
from tests.support.lane import FINETUNED, eventually, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import Close, RawUpstream, Read, Send, Stall
from tests.support.rescue import OK, apart, ask, assert_rescued, chat, ours

HOST = "model.test"
Found = tuple[int, int, int, str, tuple[Any, ...]]


def found(host: str, port: int) -> Found:
    """One address, as `getaddrinfo` gives it."""
    v6 = ":" in host
    address = (host, port, 0, 0) if v6 else (host, port)
    family = socket.AF_INET6 if v6 else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)


def answer_lookups(monkeypatch: pytest.MonkeyPatch, lookup: Callable[[], Awaitable[list[Found]]]) -> list[float]:
    """Let `lookup` answer for HOST; the list grows with every lookup of it."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo
    asked: list[float] = []

    async def getaddrinfo(host: Any, port: Any, **more: Any) -> Any:
        if host != HOST:
            return await real(host, port, **more)
        asked.append(loop.time())
        return await lookup()

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return asked


def always(*addresses: Found) -> Callable[[], Awaitable[list[Found]]]:
    """A name server that always says the same."""

    async def lookup() -> list[Found]:
        return list(addresses)

    return lookup


def unused_port(host: str) -> int:
    """A port that refuses."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("dead_first", [True, False])
@pytest.mark.parametrize(("alive", "dead"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
async def test_one_family_refused_and_the_other_serves(
    monkeypatch: pytest.MonkeyPatch, alive: str, dead: str, dead_first: bool
) -> None:
    """ACCEPTANCE 10: one address that answers is enough."""
    async with Stub() as stub, Stub(StubConfig(host=alive)) as candidate:
        addresses = [found(dead, unused_port(dead)), found(alive, candidate.port)]
        answer_lookups(monkeypatch, always(*addresses[:: 1 if dead_first else -1]))
        policy = apart(f"http://{HOST}:{candidate.port}", stub.url, timeouts={"connect": "2s"})
        async with running(policy) as lane:
            assert ours(await ask(lane))["served"] == FINETUNED
        assert candidate.calls[0].header("host") == f"{HOST}:{candidate.port}"


@pytest.mark.parametrize(("alive", "dead"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
async def test_one_family_silent_and_the_other_serves_within_the_connect_time(
    monkeypatch: pytest.MonkeyPatch, alive: str, dead: str
) -> None:
    """ACCEPTANCE 10: a black hole must not use up the time of the address behind it."""
    async with Stub() as stub, Stub(StubConfig(host=alive)) as candidate:
        with deaf_listener(dead) as port:
            answer_lookups(monkeypatch, always(found(dead, port), found(alive, candidate.port)))
            policy = apart(f"http://{HOST}:{candidate.port}", stub.url, timeouts={"connect": "2s"})
            async with running(policy) as lane:
                started = time.perf_counter()
                assert ours(await ask(lane))["served"] == FINETUNED
                assert time.perf_counter() - started < 1.5


async def test_all_addresses_refused_is_a_connect_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEPTANCE 10."""
    async with Stub() as stub:
        ports = {host: unused_port(host) for host in ("127.0.0.1", "::1")}
        answer_lookups(monkeypatch, always(*(found(host, port) for host, port in ports.items())))
        async with running(apart(f"http://{HOST}:9", stub.url, timeouts={"connect": "5s"})) as lane:
            assert_rescued(await ask(lane), "connect")


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_unknown_name_is_a_connect_failure(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """ACCEPTANCE 10."""

    async def lookup() -> list[Found]:
        raise socket.gaierror(code, "no such name")

    async with Stub() as stub:
        asked = answer_lookups(monkeypatch, lookup)
        async with running(apart(f"http://{HOST}:9", stub.url)) as lane:
            for _ in range(2):
                assert_rescued(await ask(lane), "connect")
        assert len(asked) == 2


async def test_name_without_addresses_is_a_connect_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEPTANCE 10: a resolver may answer with an empty list."""
    async with Stub() as stub:
        answer_lookups(monkeypatch, always())
        async with running(apart(f"http://{HOST}:9", stub.url)) as lane:
            assert_rescued(await ask(lane), "connect")


async def test_hanging_lookup_is_a_connect_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEPTANCE 10, 39: for everybody that waits for it, and it is asked once."""
    never = asyncio.Event()

    async def lookup() -> list[Found]:
        await never.wait()
        return []

    async with Stub() as stub:
        asked = answer_lookups(monkeypatch, lookup)
        async with running(apart(f"http://{HOST}:9", stub.url)) as lane:
            for answer in await asyncio.gather(*(ask(lane) for _ in range(5))):
                assert_rescued(answer, "connect_timeout")
        assert len(asked) == 1
        never.set()
        await asyncio.sleep(0)


async def test_name_is_looked_up_once_for_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEPTANCE 39: and not again for a while."""
    async with Stub() as stub, RawUpstream([Read(), Send(OK), Close()]) as candidate:
        asked = answer_lookups(monkeypatch, always(found("127.0.0.1", candidate.port)))
        async with running(apart(f"http://{HOST}:{candidate.port}", stub.url)) as lane:
            await asyncio.gather(*(ask(lane) for _ in range(10)))
            await ask(lane)
        assert len(candidate.connections) >= 10
        assert len(asked) == 1


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
async def test_name_server_that_goes_down_takes_no_known_upstream_with_it(
    monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """ACCEPTANCE 39: an address that was good a moment ago is better than none."""
    monkeypatch.setattr("proxy.upstream.connect.DNS_TTL", 0.05)
    down = asyncio.Event()
    over = asyncio.Event()

    async with Stub() as stub, RawUpstream([Read(), Send(OK), Close()]) as candidate:

        async def lookup() -> list[Found]:
            if down.is_set():
                if hangs:
                    await over.wait()
                raise socket.gaierror(socket.EAI_AGAIN, "try again")
            return [found("127.0.0.1", candidate.port)]

        answer_lookups(monkeypatch, lookup)
        async with running(apart(f"http://{HOST}:{candidate.port}", stub.url)) as lane:
            assert ours(await ask(lane))["served"] == FINETUNED
            down.set()
            await asyncio.sleep(0.1)
            assert ours(await ask(lane))["served"] == FINETUNED
            over.set()
            await asyncio.sleep(0)


async def test_moved_upstream_is_found_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEPTANCE 10: a failover in the DNS reaches us without a restart."""
    monkeypatch.setattr("proxy.upstream.connect.DNS_TTL", 0.05)
    async with Stub() as stub, Stub() as before, Stub() as after:
        ports = [before.port]

        async def lookup() -> list[Found]:
            return [found("127.0.0.1", ports[0])]

        answer_lookups(monkeypatch, lookup)
        async with running(apart(f"http://{HOST}:{before.port}", stub.url)) as lane:
            assert ours(await ask(lane))["served"] == FINETUNED
            ports[0] = after.port
            await before.pause_listening(drop=True)
            await asyncio.sleep(0.1)
            for _ in range(2):  # the first may be what makes it look again
                answer = await ask(lane)
            assert ours(answer)["served"] == FINETUNED
        assert len(after.calls) >= 1


async def test_client_that_leaves_while_connecting_leaves_nothing_behind() -> None:
    """Point 6: the half-open socket goes, and its place in the pool is free again."""
    with deaf_listener() as port:
        async with Stub() as stub:
            pool = {"max_connections": 1, "wait": "100ms"}
            policy = apart(f"http://127.0.0.1:{port}", stub.url, candidate={"pool": pool}, timeouts={"connect": "5s"})
            async with running(policy) as lane:
                for _ in range(3):
                    async with RawClient(lane.host, lane.port) as client:
                        await client.send(chat())
                        await eventually(lambda: lane.service.exchange.in_flight == 1)
                    await lane.idle()
            assert stub.calls == []
    assert [(record.status, record.failure) for record in lane.records] == [(499, "client_gone")] * 3


async def test_address_in_the_policy_needs_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point 6: an IPv6 address in brackets, in URL and Host alike."""
    async with Stub() as stub, Stub(StubConfig(host="::1")) as candidate:
        asked = answer_lookups(monkeypatch, always())
        async with running(apart(candidate.url, stub.url)) as lane:
            assert ours(await ask(lane))["served"] == FINETUNED
        assert asked == []
        assert candidate.calls[0].header("host") == f"[::1]:{candidate.port}"


async def test_upstream_that_accepts_and_closes_is_served_by_baseline() -> None:
    """ACCEPTANCE 10: a load balancer without a healthy server behind it."""
    async with (
        Stub() as stub,
        RawUpstream([Close()]) as candidate,
        RawUpstream([Read(), Stall()]),
        running(apart(candidate.url, stub.url)) as lane,
    ):
        answer = await ask(lane)
    assert_rescued(answer, ours(answer)["fallback"])
    assert ours(answer)["fallback"] in ("connect", "reset")

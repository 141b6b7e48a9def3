"""`splitlane health` against running proxies, and against what is none."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from proxy.cli import health, main
from proxy.policy.snapshot import ADMIN_ADDRESS
from tests.support.lane import Lane, policy_of, running
from tests.support.served import ROOT

UPSTREAM = "http://127.0.0.1:1"
Ask = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Exit code and standard output of `splitlane health …`, which blocks, in a thread of its own."""

    async def run(*argv: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["health", *argv])
        shown = capsys.readouterr()
        assert shown.err == ""
        return code, shown.out

    return run


def at(lane: Lane) -> tuple[str, str]:
    return "--admin", f"127.0.0.1:{lane.service.admin.port}"


async def test_serving_proxy_is_alive_and_ready(ask: Ask) -> None:
    async with running(policy_of(UPSTREAM)) as lane:
        url = f"http://127.0.0.1:{lane.service.admin.port}"
        assert await ask(*at(lane)) == (0, f"{url}/livez: ok\n")
        assert await ask(*at(lane), "--ready") == (0, f"{url}/readyz: ready\n")


async def test_address_for_all_interfaces_is_asked_on_this_machine(ask: Ask) -> None:
    async with running(policy_of(UPSTREAM)) as lane:
        code, line = await ask("--admin", f":{lane.service.admin.port}")
        assert (code, line) == (0, f"http://127.0.0.1:{lane.service.admin.port}/livez: ok\n")


async def test_draining_proxy_is_alive_and_not_ready(ask: Ask) -> None:
    async with running(policy_of(UPSTREAM)) as lane:
        lane.service._listener.draining = True
        assert (await ask(*at(lane)))[0] == 0
        code, line = await ask(*at(lane), "--ready")
        assert code == 1
        assert line.endswith("/readyz: draining (status 503)\n")
        lane.service._listener.draining = False


async def test_agent_is_well_until_its_breaker_opens(ask: Ask) -> None:
    async with running(policy_of(UPSTREAM)) as lane:
        assert await ask(*at(lane), "--agent", "qa_agent") == (
            0,
            f"http://127.0.0.1:{lane.service.admin.port}/health/qa_agent: OK\n",
        )
        exchange = lane.service.exchange
        breaker = exchange.attempts.breaker(next(iter(exchange.policy.agents.values())).finetuned)
        for _ in range(exchange.policy.fallback.breaker.failures):
            breaker.failed(0.0, exchange.policy.fallback.breaker)
        code, line = await ask(*at(lane), "--agent", "qa_agent")
        assert (code, line.partition(": ")[2]) == (1, "ERROR: breaker_open\n")
        code, text = await ask(*at(lane), "--agent", "qa_agent", "--json")
        told = json.loads(text)
        assert (code, told["well"], told["status"], told["error"]) == (1, False, 200, None)
        assert told["answer"]["reasons"] == ["breaker_open"]
        assert 0 < told["seconds"] < 2


async def test_unknown_agent_is_not_well_and_says_so(ask: Ask) -> None:
    async with running(policy_of(UPSTREAM)) as lane:
        code, line = await ask(*at(lane), "--agent", "no body/..")
        assert code == 1
        assert "/health/no%20body%2F..: " in line
        assert line.endswith("(status 404)\n")


async def test_nobody_listening_is_one_line_and_exit_1(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, line = await ask("--admin", f"127.0.0.1:{port}")
    assert (code, line) == (1, f"http://127.0.0.1:{port}/livez: no answer: Connection refused\n")
    code, text = await ask("--admin", f"127.0.0.1:{port}", "--json")
    assert (code, json.loads(text)["error"]) == (1, "no answer: Connection refused")


async def test_silent_listener_is_given_up_after_the_timeout(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, line = await ask("--admin", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.05")
    assert code == 1
    assert line.endswith("no answer within 0.05 s\n")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n<html>\n<body>hello</body>", "not an answer of Splitlane's (status 200)"),
        (b"SSH-2.0-x\r\n", "no answer: what came is not HTTP"),
        (b"", "no answer: what came is not HTTP"),
    ],
)
async def test_something_else_on_the_port_is_not_well(ask: Ask, sent: bytes, told: str) -> None:
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        code, line = await ask("--admin", f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "--agent", "x")
        await closed.wait()
    assert code == 1
    assert told in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    "argv", [["--admin", "8081"], ["--timeout", "0"], ["--timeout", "x"], ["--ready", "--agent", "x"]]
)
def test_wrong_argument_is_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["health", *argv])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: splitlane health")


def test_default_address_is_that_of_serve() -> None:
    assert health.address(health.ADMIN) == ADMIN_ADDRESS


def test_command_imports_nothing_that_takes_time() -> None:
    """A HEALTHCHECK runs it every few seconds, on the proxy's own core."""
    heavy = (
        "aiohttp",
        "asyncio",
        "dataclasses",
        "email",
        "inspect",
        "orjson",
        "pydantic",
        "ssl",
        "yaml",
        "proxy.policy.snapshot",
    )
    code = (
        "import sys; from proxy.cli import main\n"
        "main(['health', '--timeout', '1'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr == "[]\n"

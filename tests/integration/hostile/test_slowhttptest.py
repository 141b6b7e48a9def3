"""ACCEPTANCE 30: slowhttptest's three modes against a proxy of its own process, while others are served.

Slow heads and slow bodies end by their deadlines, slow readers by the write stall; nobody else notices.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.stub import Stub
from tests.integration.asking import chat
from tests.support.programs import program
from tests.support.raw_upstream import RawUpstream, Read, Send, response
from tests.support.served import Served, serving, write_policy

CONNECTIONS = 40
SECONDS = 10  # that it tries; all that it has opened must be closed by then
LIMITS = {"request_headers": "500ms", "request_body": "500ms", "write_stall": "500ms"}
MODES = {
    "slow heads": ["-H", "-i", "5", "-t", "GET"],
    "slow bodies": ["-B", "-i", "5", "-s", "100000"],
    "slow readers": ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-t", "GET"],
}


def default_of(chats: str, others: str) -> dict[str, Any]:
    """Upstreams: what is no chat goes to another one than chats do."""
    upstreams = {"up": {"base_url": chats, "api_key": "sk-upstream"}, "long": {"base_url": others}}
    return {"upstreams": upstreams, "default_upstream": "long"}


async def waits_of_others(proxy: Served, slow: asyncio.Task[int]) -> tuple[list[float], int]:
    """What clients waited until no slow one was left, in seconds, each served; and how many slow ones there were."""
    waits, peak, began = [], 0, time.perf_counter()
    while not slow.done():
        started = time.perf_counter()
        async with proxy.client() as client:
            await client.send(chat())
            assert (await client.read_response()).status == 200
        waits.append(time.perf_counter() - started)
        left = open_connections(proxy)
        peak = max(peak, left)
        if peak > CONNECTIONS / 4 and left <= 1:  # our own may not be gone yet
            return waits, peak
        await asyncio.sleep(0.05)
    if peak > CONNECTIONS / 4 and open_connections(proxy) <= 1 and time.perf_counter() - began < SECONDS:
        return waits, peak  # it has given up, all of them closed
    pytest.fail(f"slowhttptest ended first: {peak} connections at most, {open_connections(proxy)} left")


def open_connections(proxy: Served) -> int:
    """How many connections of the data port are established."""
    rows = [line.split() for line in Path(f"/proc/{proxy.pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{proxy.data:04X}") and row[3] == "01" for row in rows)


@pytest.mark.parametrize("mode", MODES)
async def test_slow_clients_are_closed_by_their_deadlines_and_others_do_not_notice(mode: str, tmp_path: Path) -> None:
    big = response(b"x" * 4_000_000)  # more than the kernel's buffers take
    slow = program("slowhttptest", "slowhttptest")
    async with (
        Stub() as stub,
        RawUpstream([Read(), Send(big)]) as up,
        serving(write_policy(tmp_path, stub.url, limits=LIMITS, **default_of(stub.url, up.url))) as proxy,
    ):
        command = [
            slow, *MODES[mode], "-c", str(CONNECTIONS), "-r", "200", "-l", str(SECONDS), "-p", "2", "-v", "1",
            "-u", f"http://127.0.0.1:{proxy.data}/v1/files",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL)
        ended = asyncio.create_task(process.wait())
        try:
            waits, peak = await waits_of_others(proxy, ended)
        finally:
            if process.returncode is None:
                process.kill()
            await ended
        assert statistics.median(waits) < 0.5, (waits, peak)
        assert not any("Traceback" in line for line in proxy.log)

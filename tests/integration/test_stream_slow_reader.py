"""ACCEPTANCE 24: a client that does not read costs no memory, holds the upstream back, and is dropped."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from proxy.words import Failure
from tests.integration.streaming import (
    BLOCK,
    BLOCK_BODY,
    DONE,
    FINISH,
    ROLE,
    Firehose,
    chat,
    delta,
    settled,
    split,
)
from tests.support.lane import BASELINE, FINETUNED, eventually, policy_of, running
from tests.support.raw_client import RawClient
from tests.support.raw_upstream import Action, Read, Send, event_stream
from tests.support.served import resident as resident_of

MB = 1_000_000
BLOCKS_OF_200_MB = 200 * MB // len(BLOCK)
# What the kernel holds in four socket buffers of this machine's largest size, and some.
IN_KERNEL = 80 * MB


@dataclass
class Process:
    """A proxy in a process of its own."""

    pid: int
    port: int

    def memory(self) -> int:
        """Its resident memory, bytes."""
        return resident_of(self.pid)


@asynccontextmanager
async def serving(folder: Path, upstream: str, write_stall: str) -> AsyncIterator[Process]:
    """Run `python -m proxy serve` in front of `upstream`."""
    policy = {
        "upstreams": {"up": {"base_url": upstream, "timeouts": {"idle": "5s"}}},
        "agents": {"qa_agent": {"fine_tuned": FINETUNED, "fallback": BASELINE}},
        "limits": {"write_stall": write_stall, "drain": "0s"},
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    log = folder / "log"
    command = [sys.executable, "-m", "proxy", "serve", "--policy", str(folder / "policy.yaml")]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with log.open("wb") as written:
        process = subprocess.Popen(command, stderr=written, cwd=Path(__file__).parents[2])
    try:
        await eventually(lambda: b"data 127.0.0.1:" in log.read_bytes(), within=15)
        found = re.search(rb"data 127\.0\.0\.1:(\d+)", log.read_bytes())
        assert found is not None
        yield Process(process.pid, int(found[1]))
    finally:
        process.terminate()
        await asyncio.get_running_loop().run_in_executor(None, process.wait, 15)


async def read_stream(client: RawClient) -> int:
    """Read a whole stream and return its length in bytes."""
    await client.read_head()
    length = 0
    while data := await client.read_chunk():
        length += len(data)
    assert data == b""
    return length


async def test_reader_that_stops_costs_no_memory_and_is_dropped(tmp_path: Path) -> None:
    async with Firehose(BLOCKS_OF_200_MB) as hose, serving(tmp_path, hose.url, "1s") as proxy:
        async with RawClient("127.0.0.1", proxy.port) as client:  # what the first request needs is no growth
            await client.send(chat())
            while len(await client.read()) and hose.sent < 10 * MB:
                pass
        await hose.closed.wait()
        hose.closed.clear()
        before = hose.sent
        resident = proxy.memory()
        peak = 0
        async with RawClient("127.0.0.1", proxy.port, receive_buffer=65_536) as client:
            await client.send(chat())
            await client.read_head()
            stopped = time.monotonic()
            while not hose.closed.is_set() and time.monotonic() < stopped + 15:
                peak = max(peak, proxy.memory())
                await asyncio.sleep(0.02)
            took = time.monotonic() - stopped
            assert await client.wait_closed()
    assert hose.closed.is_set()
    assert 0.9 < took < 6
    assert peak - resident < 5 * MB
    assert hose.sent - before < IN_KERNEL


async def test_long_stream_that_is_read_costs_no_memory(tmp_path: Path) -> None:
    length = resident = peak = 0
    async with (
        Firehose(BLOCKS_OF_200_MB) as hose,
        serving(tmp_path, hose.url, "5s") as proxy,
        RawClient("127.0.0.1", proxy.port, timeout=20) as client,
    ):
        await client.send(chat())
        await client.read_head()
        while data := await client.read_chunk():
            length += len(data)
            if not resident and length > 10 * MB:
                resident = proxy.memory()
            elif length // MB % 5 == 0:
                peak = max(peak, proxy.memory())
    assert data == b""
    assert length == BLOCKS_OF_200_MB * BLOCK_BODY + len(FINISH) + len(DONE)
    assert peak - resident < 5 * MB


async def test_upstream_is_held_back_while_the_client_does_not_read_and_then_goes_on() -> None:
    blocks = 6000
    timeouts = {"idle": "300ms"}  # waiting for the client is not the upstream's silence
    async with Firehose(blocks) as hose:
        policy = policy_of(hose.url, upstreams={"up": {"timeouts": timeouts}}, limits={"write_stall": "20s"})
        async with running(policy) as lane, RawClient(lane.host, lane.port, receive_buffer=65_536) as client:
            await client.send(chat())
            stopped_at = await settled(lambda: hose.sent)
            assert stopped_at < min(IN_KERNEL, blocks * len(BLOCK) / 2)
            await asyncio.sleep(0.4)
            assert hose.sent == stopped_at
            assert await read_stream(client) == blocks * BLOCK_BODY + len(FINISH) + len(DONE)
            record = await lane.record()
    assert (record.status, record.failure) == (200, None)


async def test_reader_that_stops_is_dropped_as_gone() -> None:
    async with (
        Firehose(10_000) as hose,
        running(policy_of(hose.url, limits={"write_stall": "400ms"})) as lane,
        RawClient(lane.host, lane.port, receive_buffer=16_384) as client,
    ):
        await client.send(chat())
        await client.read_head()
        record = await lane.record()
        async with asyncio.timeout(1):
            await hose.closed.wait()
        await lane.idle()
    assert (record.status, record.failure, record.fallback) == (499, Failure.CLIENT_GONE, None)
    assert 0.4 <= record.latency < 3


async def test_reader_of_a_held_answer_that_stops_is_dropped() -> None:
    block = delta(content="x" * 100_000)
    script: list[Action] = [Read(), Send(event_stream(*[block] * 120, FINISH, DONE))]
    limits = {"write_stall": "400ms"}
    async with (
        split(script, fallback={"buffer_stream": True}, limits=limits) as at,
        at.client(receive_buffer=16_384) as client,
    ):
        await client.send(chat())
        await client.read_head()
        await at.lane.record()
        await eventually(lambda: at.lane.service.connections == 0, within=3)


async def test_reader_that_is_slow_but_reads_is_not_dropped() -> None:
    block = delta(content="x" * 100_000)
    body = [ROLE, *[block] * 120, FINISH, DONE]
    script: list[Action] = [Read(), Send(event_stream(*body))]
    limits = {"write_stall": "400ms"}
    left = sum(map(len, body))
    async with (
        split(script, fallback={"buffer_stream": True}, limits=limits) as at,
        at.client(receive_buffer=65_536) as client,
    ):
        await client.send(chat())
        await client.read_head()
        while left > 0 and (data := await client.read(200_000)):
            left -= len(data)
            await asyncio.sleep(0.02)  # more than a second for it all, and progress all the time
    assert left == 0


async def test_event_larger_than_every_buffer_arrives_whole() -> None:
    large = delta(content="y" * 6 * MB)
    async with split([Read(), Send(event_stream(large, DONE))]) as at:
        answer = await at.ask()
    assert answer.body == large + DONE
    assert answer.clean_end

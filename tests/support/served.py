"""`python -m proxy serve` as a process of its own, on free ports, with a policy file of the test's.

async with serving(write_policy(tmp_path, stub.url)) as proxy:
    ...  # proxy.data, proxy.admin, proxy.terminate(), await proxy.exit_code()
"""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.lane import BASELINE, FINETUNED
from tests.support.raw_client import RawClient, RawResponse, request

ROOT = Path(__file__).parents[2]
_ADDRESSES = re.compile(r"data 127\.0\.0\.1:(\d+), admin 127\.0\.0\.1:(\d+)")
# Importing everything takes a second on a machine at rest.
START = 20.0


def write_policy(folder: Path, upstream_url: str, **sections: Any) -> Path:
    """A policy file with one agent, `qa_agent`, at 25 %; `sections` replace or add top-level sections."""
    config: dict[str, Any] = {
        "environment": "test",
        "upstreams": {"up": {"base_url": upstream_url, "api_key": "sk-upstream"}},
        "agents": {"qa_agent": {"fine_tuned": FINETUNED, "fallback": BASELINE}},
        "ab_testing": {"enabled": True, "rollout_percentage": 25},
        **sections,
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


class Served:
    """A running process; `log` grows as it speaks, while `listening` is set."""

    def __init__(
        self, process: asyncio.subprocess.Process, data: int, admin: int, log: list[str], listening: asyncio.Event
    ) -> None:
        self.data = data
        self.admin = admin
        self.log = log
        self.listening = listening
        self._process = process

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def client(self) -> RawClient:
        """A connection to the data listener, not yet open."""
        return RawClient("127.0.0.1", self.data, timeout=10)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ask_admin(self, path: str, method: str = "GET", token: str = "") -> RawResponse:
        """An answer of the admin listener."""
        fields = [("Authorization", f"Bearer {token}")] if token else []
        async with RawClient("127.0.0.1", self.admin, timeout=40) as client:  # a report waits until nobody else works
            await client.send(request(method, path, b"", fields))
            return await client.read_response()

    def hang_up(self) -> None:
        """Close the pipe that is its standard error."""
        transport = self._process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        transport.close()

    async def exit_code(self, within: float = 10.0) -> int:
        """The process's exit code, once it has ended."""
        async with asyncio.timeout(within):
            while not self.listening.is_set():  # `wait` would wait for the pipe's end too
                if self._process.returncode is not None:
                    return self._process.returncode
                await asyncio.sleep(0.005)
            return await self._process.wait()


@asynccontextmanager
async def serving(
    policy: Path | None,
    env: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    wrapper: Sequence[str] = (),
    options: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> AsyncIterator[Served]:
    """The proxy, from when it listens to the end of the block, where it is killed if need be.

    Without a policy file, it is for `env` and the working directory `folder` to name one.  `wrapper` is a
    command that becomes the one behind it, `flags` are the interpreter's.  `options` go behind our own, so that
    theirs hold.
    """
    process = await asyncio.create_subprocess_exec(
        *wrapper,
        sys.executable,
        *flags,
        "-m",
        "proxy",
        "serve",
        *([] if policy is None else ["--policy", str(policy)]),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        *options,
        cwd=folder,
        env={**os.environ, **(env or {})},
        stderr=asyncio.subprocess.PIPE,
    )
    stderr = process.stderr
    assert stderr is not None
    log: list[str] = []
    listening = asyncio.Event()
    listening.set()

    async def collect() -> None:
        while await listening.wait() and (line := await stderr.readline()):
            log.append(line.decode())

    collecting = asyncio.create_task(collect())
    try:
        async with asyncio.timeout(3 * START if options else START):
            while (found := _ADDRESSES.search("".join(log))) is None:
                assert process.returncode is None, log
                await asyncio.sleep(0.01)
        yield Served(process, int(found[1]), int(found[2]), log, listening)
    finally:
        if process.returncode is None:
            process.kill()
        listening.set()
        await process.wait()
        await collecting


def log_lines(log: list[str]) -> list[dict[str, Any]]:
    """The log, parsed: each line is a JSON object."""
    return [json.loads(line) for line in log]

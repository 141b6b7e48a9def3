"""A `splitlane serve` of its own on free ports, and what the kernel and its own metrics know of it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.plan import BenchError

_ADDRESSES = re.compile(rb"data 127\.0\.0\.1:(\d+), admin 127\.0\.0\.1:(\d+)")
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
READY = 30.0
TOKEN = "bench"


@dataclass(slots=True)
class Proxy:
    """A running process."""

    process: asyncio.subprocess.Process
    data: int
    admin: int
    log: bytes = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def rss_kib(self) -> int:
        """VmRSS of the process alone, KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split(maxsplit=1)[0])

    def descriptors(self) -> int:
        """How many files it has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def children(self) -> list[int]:
        """The processes it has started: the ledger's writer, a report."""
        return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    async def ask_admin(self, path: str, method: str = "GET") -> bytes:
        """An admin answer's body; raises BenchError where it is not 200."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"{method} {path}: {answer[:200]!r}")
        return answer.partition(b"\r\n\r\n")[2]

    async def metrics(self) -> dict[str, float]:
        """Sums over the labels of every sample on the metrics page, by name."""
        text = (await self.ask_admin("/metrics")).decode()
        found: dict[str, float] = {}
        for name, _, value in _SAMPLE.findall(text):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def end(self, within: float = 60.0) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within):
            return await self.process.wait()


@asynccontextmanager
async def serving(policy: Path, *options: str) -> AsyncIterator[Proxy]:
    """The proxy with that policy file, from when it listens; killed at the end if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the one that is installed
        "-m",
        "proxy",
        "serve",
        "--policy",
        str(policy),
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        *options,
        env={**os.environ, "SPLITLANE_ADMIN_TOKEN": TOKEN},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    stderr = process.stderr
    assert stderr is not None
    proxy = Proxy(process, 0, 0)

    async def listen() -> None:
        while line := await stderr.readline():
            proxy.log = (proxy.log + line)[-1_000_000:]

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(READY):
            while (found := _ADDRESSES.search(proxy.log)) is None:
                if process.returncode is not None:
                    raise BenchError(f"the proxy ended at once: {proxy.log.decode(errors='replace')}")
                await asyncio.sleep(0.02)
        proxy.data, proxy.admin = int(found[1]), int(found[2])
        yield proxy
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listening

"""Prometheus and Alertmanager as Debian ships them, as processes of the test's own.

async with prometheus(tmp_path, port, lane.service.admin.port) as server:
    await server.number("sum(model_requests_total)")
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tests.support.programs import program
from tests.support.raw_client import RawClient, request


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that a PromQL expression gives now."""
        async with RawClient("127.0.0.1", self._port) as client:
            await client.send(request("GET", f"/api/v1/query?query={quote(query, safe='')}"))
            answer = json.loads((await client.read_response()).body)
        assert answer["status"] == "success", answer
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    async def number(self, query: str) -> float:
        """The value of the one series that there is; NaN where there is none yet."""
        found = await self.ask(query)
        assert len(found) <= 1, found
        return found[0][1] if found else float("nan")


@asynccontextmanager
async def prometheus(
    folder: Path, port: int, target: int, every: str = "1s", **sections: Any
) -> AsyncIterator[Prometheus]:
    """Prometheus on `port`, scraping `target` each `every`; `sections` are more of its configuration."""
    config = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "scrape_configs": [{"job_name": "splitlane", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
        **sections,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    async with _started(
        port,
        program("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ):
        yield Prometheus(port)


@asynccontextmanager
async def alertmanager(folder: Path, port: int, config: Any) -> AsyncIterator[None]:
    """Alertmanager on `port`, alone."""
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    async with _started(
        port,
        program("prometheus-alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'silences'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ):
        yield


@asynccontextmanager
async def _started(port: int, *command: str) -> AsyncIterator[None]:
    """A process, from when it says that it is ready to the end of the block."""
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with asyncio.timeout(20):
            while True:
                assert process.returncode is None
                try:
                    async with RawClient("127.0.0.1", port) as client:
                        await client.send(request("GET", "/-/ready"))
                        if (await client.read_response()).status == 200:
                            break
                except OSError:
                    pass
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

"""The metrics as Prometheus itself takes them.  ACCEPTANCE 38: `promtool check metrics`, and a real scrape."""

import asyncio
import gzip
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.stub import Stub
from tests.integration.asking import ask, chat, chat_body
from tests.support.lane import BASELINE_USER, Lane, policy_of, running
from tests.support.programs import program
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.served import Served, serving, write_policy

# As Prometheus 2 sends it.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PRICED = {"prices": {"*": {"input": 1.0, "output": 2.0}}}


async def scrape(lane: Lane, **fields: str) -> RawResponse:
    address = lane.service.admin
    async with RawClient(address.host, address.port) as client:
        headers = [(name.replace("_", "-"), value) for name, value in fields.items()]
        await client.send(request("GET", "/metrics", b"", headers))
        return await client.read_response()


async def mix(lane: Lane) -> int:
    """Traffic of many fates; returns how many requests that were."""
    requests = [
        chat(),
        chat(user=BASELINE_USER),
        chat(agent="nobody", user=None),
        chat(chat_body(stream=True)),
        chat(b"[]"),
        b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        request("GET", "/v1/models"),
        *(chat(chat_body(stream=True), headers=[("x-stub-fault", fault)]) for fault in ("status=500", "cut=1")),
        *(chat(headers=[("x-stub-fault", f"model=ft:*,{fault}")]) for fault in ("reset", "model_gone", "auth")),
    ]
    for each in requests:
        await ask(lane, each)
    return len(requests)


async def test_promtool_has_no_complaint_about_a_live_scrape() -> None:
    promtool = program("promtool", "prometheus")
    async with Stub() as stub, running(policy_of(stub.url, **PRICED)) as lane:
        await mix(lane)
        body = (await scrape(lane)).body
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert b'model_fallbacks_total{agent="qa_agent",reason="reset"} 1.0' in body


async def test_promtool_would_complain() -> None:
    """The check above can fail: the same program on a metric without help and with a wrong name."""
    wrong = b"# TYPE model_requests counter\nmodel_requests 1\n"
    promtool = program("promtool", "prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=wrong, capture_output=True, check=False)
    assert checked.returncode != 0


async def test_scrape_speaks_openmetrics_to_who_asks_for_it_and_says_the_same() -> None:
    async with Stub() as stub, running(policy_of(stub.url, **PRICED)) as lane:
        count = await mix(lane)
        plain = await scrape(lane)
        open_metrics = await scrape(lane, Accept=PROMETHEUS_ACCEPT)
    assert (plain.head.get(b"content-type") or b"").startswith(b"text/plain; version=0.0.4")
    assert (open_metrics.head.get(b"content-type") or b"").startswith(b"application/openmetrics-text; version=1.0.0")
    assert open_metrics.body.endswith(b"# EOF\n")
    totals = []
    strictly = parse_openmetrics(open_metrics.body.decode())  # type: ignore[no-untyped-call]
    for families in (parse_text(plain.body.decode()), strictly):
        samples = [sample for family in families for sample in family.samples]
        totals.append(sum(sample.value for sample in samples if sample.name == "model_requests_total"))
    assert totals == [count, count]


async def test_scrape_is_compressed_for_who_asks_for_it() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        await mix(lane)
        plain = await scrape(lane)
        packed = await scrape(lane, Accept_Encoding="gzip")
    assert plain.head.get(b"content-encoding") is None
    assert packed.head.get(b"content-encoding") == b"gzip"
    assert len(packed.body) < len(plain.body) / 4
    unpacked = gzip.decompress(packed.body)
    assert b"model_requests_total" in unpacked
    assert len(unpacked.splitlines()) == len(plain.body.splitlines())


# --- Prometheus itself ------------------------------------------------------------------------------


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
async def prometheus(folder: Path, port: int, target: int, every: str = "1s") -> AsyncIterator[Prometheus]:
    """Prometheus as Debian ships it, scraping `target` so often."""
    config = {
        "global": {"scrape_interval": every},
        "scrape_configs": [{"job_name": "splitlane", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        program("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
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
        yield Prometheus(port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def load(proxy: Served, stop: asyncio.Event) -> int:
    """Requests on one connection until `stop`; how many."""
    count = 0
    async with proxy.client() as client:
        while not stop.is_set():
            await client.send(chat(chat_body(stream=count % 4 == 0), user=f"user-{count}"))
            assert (await client.read_response()).status == 200
            count += 1
    return count


async def test_prometheus_scrapes_a_proxy_under_load_and_counts_what_was_sent(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    async with (
        Stub() as stub,
        serving(write_policy(tmp_path, stub.url, **PRICED)) as proxy,
        prometheus(tmp_path, unused_tcp_port, proxy.admin) as server,
    ):
        stop = asyncio.Event()
        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            loads = [group.create_task(load(proxy, stop)) for _ in range(4)]
            while not await server.number("count_over_time(up[1m])") >= 2:  # as many as a rate takes
                await asyncio.sleep(0.1)
            assert await server.number("min_over_time(up[1m])") == 1
            assert await server.number("sum(rate(model_requests_total[1m]))") > 0
            median = "histogram_quantile(0.5, sum by (le) (rate(model_latency_seconds_bucket[1m])))"
            assert 0 < await server.number(median) < 5
            stop.set()
        sent = sum(each.result() for each in loads)
        async with asyncio.timeout(5):
            while await server.number("sum(model_requests_total)") != sent:
                await asyncio.sleep(0.1)
        assert await server.number("sum(model_latency_seconds_count)") == sent
        assert await server.number("sum(model_cost_usd_total)") > 0
        assert await server.number("max_over_time(splitlane_in_flight[1m])") > 0
        assert await server.number("splitlane_loop_lag_seconds_count") > 20
        assert await server.number("process_resident_memory_bytes") > 10e6
        assert await server.number("process_open_fds") > 4
        ((labels, _),) = await server.ask("splitlane_build_info")
        assert labels["compiled"] in ("true", "false")

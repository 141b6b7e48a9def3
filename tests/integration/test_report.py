"""The report behind a whole proxy: each day, and on the admin listener, while requests are served."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin import reporter
from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat, error_of
from tests.support.lane import FINETUNED_USER, Lane, eventually, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.served import serving, write_policy

pytestmark = pytest.mark.alone  # a report is made when nobody else wants to run

MIDNIGHT = {"at": "00:00"}


async def admin(lane: Lane, path: str) -> RawResponse:
    address = lane.service.admin
    async with RawClient(address.host, address.port, timeout=50) as client:
        await client.send(request("GET", path))
        return await client.read_response()


def reports(metrics: str) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(metrics)}
    return {sample.labels["outcome"]: sample.value for sample in families["splitlane_reports"].samples}


async def test_proxy_writes_the_days_report_while_it_serves(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    output = tmp_path / "reports" / "results.md"
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": url})
        async with serving(path, {"SPLITLANE_ADMIN_TOKEN": "t"}) as proxy, proxy.client() as client:
            for _ in range(10):
                await client.send(chat(user=FINETUNED_USER))
                assert (await client.read_response()).status == 200
            write_policy(tmp_path, stub.url, store={"url": url}, report={**MIDNIGHT, "path": str(output)})
            assert (await proxy.ask_admin("/policy/reload", "POST", "t")).status == 200
            async with asyncio.timeout(40):
                while not output.exists():
                    await client.send(chat(user=FINETUNED_USER))
                    assert (await client.read_response()).status == 200
                    await asyncio.sleep(0.01)
            text = output.read_text()
            assert text.startswith("# Splitlane report\n")
            assert "## qa_agent at 25 %" in text
            async with asyncio.timeout(10):
                while not [line for line in proxy.log if "the report is in" in line]:
                    await asyncio.sleep(0.01)
            assert reports((await proxy.ask_admin("/metrics")).body.decode()) == {"done": 1, "failed": 0, "late": 0}
            proxy.terminate()
            assert await proxy.exit_code() == 0


async def test_admin_shows_the_report_in_three_shapes_and_answers_meanwhile(tmp_path: Path) -> None:
    policy = policy_of("http://127.0.0.1:1", store={"url": f"sqlite:///{tmp_path}/s.db"})
    async with running(policy) as lane:
        asked = asyncio.create_task(admin(lane, "/report"))
        waits = []
        while not asked.done():
            started = time.perf_counter()
            assert (await admin(lane, "/livez")).status == 200
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(0.01)
        assert sorted(waits)[int(len(waits) * 0.95)] < 0.1
        text, data, markdown = asked.result(), await admin(lane, "/report.json"), await admin(lane, "/report.md")
        assert {answer.status for answer in (text, data, markdown)} == {200}
        assert text.body.startswith(b"Splitlane report\n")
        assert json.loads(data.body)["agents"][0]["agent"] == "qa_agent"
        assert markdown.body.startswith(b"# Splitlane report\n")
        assert [answer.head.get(b"content-type") for answer in (text, data, markdown)] == [
            b"text/plain; charset=utf-8",
            b"application/json; charset=utf-8",
            b"text/markdown; charset=utf-8",
        ]
        assert (await admin(lane, "/report")).body == text.body, "for half a minute it is the same one"


@pytest.mark.parametrize("path", ["/report", "/report.json", "/report.md"])
async def test_without_a_store_there_is_no_report(path: str) -> None:
    async with running(policy_of("http://127.0.0.1:1")) as lane:
        answer = await admin(lane, path)
        assert answer.status == 503
        assert (error_of(answer)["type"], error_of(answer)["code"]) == ("server_error", "no_store")


async def test_report_that_fails_is_told_and_costs_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporter, "PROGRAM", "path, argv = {path!r}, {argv!r}; raise SystemExit('broken')")
    section = {**MIDNIGHT, "path": str(tmp_path / "r.md")}
    async with Stub() as stub:
        policy = policy_of(stub.url, store={"url": f"sqlite:///{tmp_path}/s.db"}, report=section)
        async with running(policy) as lane:
            await eventually(lambda: any("broken; the next try is in an hour" in each for each in caplog.messages))
            answer = await admin(lane, "/report")
            assert (answer.status, error_of(answer)["code"]) == (503, "report_failed")
            assert error_of(answer)["message"] == "there is no report: broken"
            assert (await ask(lane, chat())).status == 200
            assert reports((await admin(lane, "/metrics")).body.decode())["failed"] == 2


async def test_report_that_hangs_does_not_delay_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    hang = f"import os, time; path, argv = {{path!r}}, {{argv!r}}; open({str(pid)!r}, 'w').write(str(os.getpid()))"
    monkeypatch.setattr(reporter, "PROGRAM", f"{hang}; time.sleep(60)")
    section = {**MIDNIGHT, "path": str(tmp_path / "r.md")}
    async with Stub() as stub:
        policy = policy_of(stub.url, store={"url": f"sqlite:///{tmp_path}/s.db"}, report=section)
        async with running(policy) as lane:
            await eventually(lambda: pid.exists() and bool(pid.read_text()))
            assert (await ask(lane, chat())).status == 200
            started = time.monotonic()
        assert time.monotonic() - started < 2.0
    assert not Path(f"/proc/{pid.read_text()}").exists()

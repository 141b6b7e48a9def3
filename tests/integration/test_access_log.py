"""The access log of a process: what it says of each request, and what a reader that stops costs.  ACCEPTANCE 39."""

import asyncio
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proxy.stub import Stub
from tests.integration.asking import chat, chat_body
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED
from tests.support.raw_client import RawResponse, request
from tests.support.served import Served, log_lines, serving, write_policy

EVERY = {"observability": {"access_log": "100%"}, "fallback": {"breaker": {"failures": 1000}}}


async def value_of(proxy: Served, metric: str) -> int:
    text = (await proxy.ask_admin("/metrics")).body.decode()
    found = re.search(rf"^{metric} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return int(float(found[1]))


async def asked(proxy: Served, *requests: bytes) -> list[RawResponse]:
    async with proxy.client() as client:
        answers = []
        for each in requests:
            await client.send(each)
            answers.append(await client.read_response())
        return answers


def access_lines(proxy: Served) -> list[dict[str, Any]]:
    return [line for line in log_lines(proxy.log) if line["logger"] == "splitlane.access"]


async def ended(proxy: Served) -> None:
    proxy.terminate()
    assert await proxy.exit_code() == 0


# --- what is told -----------------------------------------------------------------------------------


async def test_each_request_has_a_line_that_says_what_its_answer_says(tmp_path: Path) -> None:
    async with Stub() as stub, serving(write_policy(tmp_path, stub.url, **EVERY)) as proxy:
        answers = await asked(
            proxy,
            chat(user=BASELINE_USER),
            chat(headers=[("x-stub-fault", "model=ft:*,status=500")]),
            chat(chat_body(stream=True), headers=[("x-stub-fault", "cut=1")]),
        )
        answers += await asked(proxy, request("GET", "/v1/models?secret=1"), chat(b"[]"))
        await ended(proxy)
    lines = access_lines(proxy)
    ids = [(answer.head.get(b"x-splitlane-request-id") or b"").decode() for answer in answers]
    assert [line["request_id"] for line in lines] == ids
    told = [(line["route"], line["outcome"], line["fallback"], line["served"], line["status"]) for line in lines]
    assert told == [
        ("chat", "success", None, BASELINE, 200),
        ("chat", "success", "server_error", BASELINE, 200),
        ("chat", "stream_truncated", None, FINETUNED, 200),
        ("passthrough", "success", None, None, 200),
        ("chat", "bad_request", None, None, 400),
    ]
    rescued = [(each["model"], each["status"], each["reason"]) for each in lines[1]["attempts"]]
    assert rescued == [(FINETUNED, 500, "server_error"), (BASELINE, 200, None)]
    assert lines[2]["stream"] is True
    assert 0 < lines[2]["ttft"] <= lines[2]["latency"]
    assert all(0 <= line["overhead"] <= line["latency"] for line in lines)
    assert "secret" not in "".join(proxy.log)


async def test_share_of_the_policy_is_followed_when_it_changes(tmp_path: Path) -> None:
    async with Stub() as stub, serving(write_policy(tmp_path, stub.url)) as proxy:
        await asked(proxy, chat(), chat(b"[]"))
        write_policy(tmp_path, stub.url, observability={"access_log": "1%"})
        proxy.terminate(signal.SIGHUP)
        async with asyncio.timeout(5):
            while "access_log" not in "".join(proxy.log):
                await asyncio.sleep(0.01)
        await asked(proxy, chat(b"[]"), *[chat()] * 300)
        await ended(proxy)
    outcomes = Counter(line["outcome"] for line in access_lines(proxy))
    assert outcomes["bad_request"] == 1
    assert outcomes["success"] <= 20  # of 300 at 1 %: more has a chance of 10⁻¹¹


# --- who does not read ------------------------------------------------------------------------------

# Two fields `Host`: refused, with a line of the log.
WARNED = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
ENOUGH = 600  # lines to fill a pipe, and what its reader holds


async def slowest(proxy: Served, data: bytes, count: int) -> float:
    """Seconds of the slowest of `count` answers, one after the other."""
    worst = 0.0
    async with proxy.client() as client:
        for _ in range(count):
            started = time.perf_counter()
            await client.send(data)
            await client.read_response()
            worst = max(worst, time.perf_counter() - started)
    return worst


@pytest.mark.parametrize("data", [chat(), WARNED], ids=["access log", "log"])
async def test_full_pipe_slows_no_request_and_no_shutdown(tmp_path: Path, data: bytes) -> None:
    async with Stub() as stub, serving(write_policy(tmp_path, stub.url, **EVERY)) as proxy:
        proxy.listening.clear()
        assert await slowest(proxy, data, ENOUGH) < 2.0
        written = await value_of(proxy, "splitlane_access_log_written_total")
        assert await slowest(proxy, data, 100) < 2.0
        assert await value_of(proxy, "splitlane_access_log_written_total") == written < ENOUGH
        assert await value_of(proxy, "splitlane_overhead_seconds_count") == ENOUGH + 100
        started = time.perf_counter()
        proxy.terminate()
        assert await proxy.exit_code() == 0
        assert time.perf_counter() - started < 3.0  # half a second for idle connections, half for the lines


async def test_reader_that_comes_back_finds_every_line_that_waited(tmp_path: Path) -> None:
    async with Stub() as stub, serving(write_policy(tmp_path, stub.url, **EVERY)) as proxy:
        proxy.listening.clear()
        await slowest(proxy, chat(), ENOUGH)
        proxy.listening.set()
        await ended(proxy)
    assert len(access_lines(proxy)) == ENOUGH
    assert log_lines(proxy.log)[-1]["message"] == "stopped"


async def test_closed_pipe_drops_lines_counts_them_and_nothing_else(tmp_path: Path) -> None:
    async with Stub() as stub, serving(write_policy(tmp_path, stub.url, **EVERY)) as proxy:
        proxy.hang_up()
        answers = await asked(proxy, chat(), chat(b"[]"), WARNED)
        assert [answer.status for answer in answers] == [200, 400, 400]
        async with asyncio.timeout(5):
            while await value_of(proxy, "splitlane_access_log_dropped_total") < 3:
                await asyncio.sleep(0.02)
        assert await value_of(proxy, "splitlane_log_dropped_total") >= 1
        assert await value_of(proxy, "splitlane_access_log_written_total") == 0
        await ended(proxy)

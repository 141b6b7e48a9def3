"""What a reader copies works: the Python examples, and the README's experiments with the stub."""

import asyncio
import itertools
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.policy.store import PolicyStore
from proxy.stub import Stub, StubConfig
from proxy.words import Dialect, Feedback
from tests.docs.pages import ROOT, Block, blocks, section, text_of
from tests.support.lane import Lane, policy_file, running

DATA = "http://127.0.0.1:8080"
EXPERIMENTS = "Break it by hand"
PYTHON = blocks("python")


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[Lane, Stub]]:
    """What the README has a reader start: the stub in Mistral's dialect, and the proxy with the demo policy."""
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub:
        policy = PolicyStore(policy_file("demo.yaml"), {"SPLITLANE_STUB_URL": stub.url})
        async with running(policy) as lane:
            yield lane, stub


async def run(*command: str, within: float = 30) -> tuple[int, str]:
    """Exit code and both outputs of a command."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=kept, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("example", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
async def test_python_example_runs_against_proxy_and_stub(example: Block) -> None:
    assert DATA in example.text, "the example talks to something else"
    async with demo() as (lane, stub):
        code, output = await run(sys.executable, "-c", example.text.replace(DATA, lane.url))
        assert code == 0, output
        records = lane.records
    assert records
    assert [(record.agent, record.failure) for record in records] == [("qa_agent", None)] * len(records)
    assert all(record.decision.bucket >= 0 for record in records), "no user was found"
    assert stub.calls
    assert re.search(r"Answer from|arguments=", output), output


def test_every_sdk_has_an_example_in_the_readme() -> None:
    imports = {line.split()[1] for block in blocks("python", "README.md") for line in block.text.splitlines()[:1]}
    assert imports == {"openai", "mistralai.client", "langchain_openai"}


async def test_experiments_of_the_readme_show_what_it_says() -> None:
    text = section("README.md", EXPERIMENTS)
    fenced = re.findall(r"```(bash|text)\n(.*?)```", text, re.DOTALL)
    setup = next(code for kind, code in fenced if kind == "bash" and code.startswith("ask()"))
    shown = [
        (code, expected)
        for (kind, code), (following, expected) in itertools.pairwise(fenced)
        if (kind, following) == ("bash", "text")
    ]
    assert len(shown) == 4
    async with demo() as (lane, _):
        for code, expected in shown:
            _, output = await run("bash", "-c", (setup + code).replace(DATA, lane.url))
            lines = {line.rstrip("\r") for line in output.splitlines()}
            for line in expected.splitlines():
                assert line in lines, f"{code}shows no {line!r}:\n{output}"
            assert ("curl: (18)" in output) == ("cut=2" in code), output
        first = shown[0][0]
        _, output = await run("bash", "-c", (setup + first * 6).replace(DATA, lane.url))
        reasons = re.findall(r"x-splitlane-fallback: (\w+)", output)
        assert reasons == ["server_error"] * 5 + ["breaker_open"]


async def test_curl_examples_of_the_guide_are_answered() -> None:
    examples = [block for block in blocks("bash", "docs/integration.md") if block.text.startswith("curl")]
    assert examples
    async with demo() as (lane, _):
        rated: list[Feedback] = []
        lane.service.exchange.feedback = rated.append
        for block in examples:
            code, output = await run("bash", "-c", block.text.replace(DATA, lane.url))
            assert code == 0
            assert "HTTP/1.1 200 OK" in output or "HTTP/1.1 202 Accepted" in output
        shown = section("docs/integration.md", "Feedback")
        assert output.splitlines()[-1] in shown
    assert [(each.response_id, each.score) for each in rated] == [("chatcmpl-7f3a", 1.0)]


def test_readme_has_the_place_of_the_demos_output() -> None:
    assert "<!-- demo-output -->\n```" in text_of("README.md")

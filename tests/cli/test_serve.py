"""`splitlane` as a person meets it: help, versions, mistakes."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy.cli import main
from proxy.stub import Stub
from tests.integration.asking import chat
from tests.support.served import ROOT, log_lines, serving, write_policy

SECRET = "sk-canary-4711"


def splitlane(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *argv],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def commands() -> list[str]:
    """The commands that `splitlane --help` lists."""
    listed = re.findall(r"^    ([a-z]+) ", splitlane("--help").stdout, re.MULTILINE)
    assert {"serve", "stub", "demo"} <= set(listed)
    return listed


def test_help_of_every_command_shows_examples() -> None:
    """DESIGN §3.9."""
    for command in commands():
        shown = splitlane(command, "--help")
        assert (shown.returncode, shown.stderr) == (0, ""), command
        assert "examples:" in shown.stdout, command
        assert re.search(rf"^  (\S+=\S+ )?splitlane {command}\b", shown.stdout, re.MULTILINE), command


def test_version_is_the_packages() -> None:
    shown = splitlane("--version")
    assert (shown.returncode, shown.stdout) == (0, f"splitlane {proxy.__version__} (pure Python)\n")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["serv"],
        ["serve", "--listen", "8080"],
        ["serve", "--listen", "a:99999"],
        ["serve", "--admin", ":x"],
        ["serve", "--polcy", "x"],
        ["serve", "extra"],
        ["serve", "--workers", "0"],
        ["serve", "--workers", "two"],
    ],
)
def test_wrong_argument_is_usage_and_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert shown.err.startswith("usage: splitlane")


BAD_POLICY = f"""\
environment: test
upstreams:
  up: {{base_url: "ftp://user:{SECRET}@nowhere", api_key: "{SECRET} with spaces", dialcet: openai}}
  second: {{base_url: "http://127.0.0.1:1", api_key: "${{CANARY_KEY}}{SECRET}\\n"}}
agents:
  qa_agent: {{fine_tuned: {{upstream: nowhere, model: m}}, fallback: b, rollout_percentage: 101}}
limits: {{drain: 25, max_body: 32MB5}}
alerting: {{slack_webhook: "{SECRET}"}}
api_key: {SECRET}
"""


def test_bad_policy_is_one_line_for_each_problem_and_exit_2(tmp_path: Path) -> None:
    """ACCEPTANCE 27 and 28: every problem at once, with its place, and nothing of the secrets."""
    path = tmp_path / "bad.yaml"
    path.write_text(BAD_POLICY)
    failed = splitlane("serve", "--policy", str(path), CANARY_KEY=SECRET)
    assert (failed.returncode, failed.stdout) == (2, "")
    lines = failed.stderr.splitlines()
    assert len(lines) >= 9
    assert all(re.match(rf"{re.escape(str(path))}:\d+:\d+: \S+: got .+, expected .+", line) for line in lines), lines
    for key in (
        "upstreams.up.base_url",
        "upstreams.up.api_key",
        "upstreams.up.dialcet",
        "upstreams.second.api_key",
        "agents.qa_agent.fine_tuned.upstream",
        "agents.qa_agent.rollout_percentage",
        "limits.drain",
        "limits.max_body",
        "alerting.slack_webhook",
    ):
        assert sum(f" {key}: " in line for line in lines) == 1, key
    assert "canary" not in failed.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a: [",
        b"\xff\xfe\x00",
        b"- 1\n",
        b"x: !!python/object/apply:os.system [id]\n",
        b"upstreams: *nothing\n",
        b"a: &a [x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefghi"),
        b"#" * 10_000_000,
    ],
    ids=["empty", "YAML error", "no text", "a list", "python object", "unknown alias", "alias bomb", "10 MB"],
)
def test_unreadable_policy_is_lines_and_exit_2(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert main(["serve", "--policy", str(path), "--workers", "2"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(line.startswith(str(path)) for line in shown.err.splitlines())
    assert shown.err


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["pipe", "folder", "/dev/zero", "/dev/null", "/proc/self/mem"])
def test_policy_path_that_is_no_file_is_one_line_and_exit_2(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    assert main(["serve", "--policy", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: got an unreadable file (")


def test_missing_policy_and_unknown_environment_are_one_line_and_exit_2(tmp_path: Path) -> None:
    for failed in (
        splitlane("serve", "--policy", str(tmp_path / "none.yaml")),
        splitlane("serve", GENESIS_ENV="prodction"),
        splitlane("serve", GENESIS_ENV="../secrets"),
    ):
        assert failed.returncode == 2
        assert len(failed.stderr.splitlines()) == 1


def test_unset_variable_is_named(tmp_path: Path) -> None:
    """ACCEPTANCE 28."""
    path = write_policy(
        tmp_path, "http://127.0.0.1:1", upstreams={"up": {"base_url": "http://a", "api_key": "${NOT_SET_1}"}}
    )
    failed = splitlane("serve", "--policy", str(path))
    assert failed.returncode == 2
    assert "NOT_SET_1" in failed.stderr
    assert "upstreams.up.api_key" in failed.stderr


@pytest.mark.parametrize(("option", "workers"), [("--listen", "1"), ("--admin", "1"), ("--listen", "2")])
def test_busy_port_is_one_line_and_exit_1(tmp_path: Path, option: str, workers: str) -> None:
    store = {"url": f"sqlite:///{tmp_path / 'lane.db'}"}
    path = write_policy(tmp_path, "http://127.0.0.1:1", store=store, prices={"*": {"input": 1, "output": 1}})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--admin" if option == "--listen" else "--listen"
        addresses = (option, f"127.0.0.1:{port}", other, "127.0.0.1:0")
        failed = splitlane("serve", "--policy", str(path), *addresses, "--workers", workers)
    assert (failed.returncode, failed.stdout) == (1, "")
    (line,) = failed.stderr.splitlines()
    assert str(port) in line
    assert "Traceback" not in line


async def test_serve_answers_logs_json_and_shows_no_secret(tmp_path: Path) -> None:
    """ACCEPTANCE 28: nothing of the key in the log at debug level, the metrics or an answer."""
    async with Stub() as stub:
        up = {"up": {"base_url": stub.url, "api_key": "${CANARY_KEY}"}}
        path = write_policy(tmp_path, stub.url, upstreams=up, observability={"log_level": "debug"})
        async with serving(path, {"CANARY_KEY": SECRET}) as running:
            async with running.client() as client:
                for fault in ("status=500", "reset", "auth", "slow=0"):
                    await client.send(
                        chat(headers=[("x-stub-fault", fault), ("Authorization", f"Bearer {SECRET}-client")])
                    )
                    answer = await client.read_response()
                    assert b"canary" not in repr(answer).encode()
                await client.send(b"GET /\x00 HTTP/1.1\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\n\r\n")
                assert (await client.read_response()).status == 400
            assert b"canary" not in (await running.ask_admin("/metrics")).body
            running.terminate()
            assert await running.exit_code() == 0
        assert stub.calls[0].header("authorization") == f"Bearer {SECRET}"
    lines = log_lines(running.log)
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "canary" not in "".join(running.log)


@pytest.mark.alone  # production keeps records
async def test_environment_variable_picks_the_policy() -> None:
    """DESIGN: `GENESIS_ENV`, `dev` by default."""
    for name, expected in (("production", "production"), ("staging", "staging"), ("", "dev")):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "proxy",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "GENESIS_ENV": name,
                "MISTRAL_API_KEY": "sk-x",
                "SLACK_WEBHOOK_URL": "https://hooks.example/x",
            },
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(20):
                said = ""
                while f"serving {expected}: " not in said and (line := await process.stderr.readline()):
                    said += line.decode()
            assert f"serving {expected}: " in said
        finally:
            process.kill()
            await process.communicate()

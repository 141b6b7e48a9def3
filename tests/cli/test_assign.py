"""`splitlane assign` explains what the proxy does; held to the vectors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from tests.cli.running import splitlane
from tests.support.served import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / "assignment.json").read_text())["assignments"]
PRODUCTION = ("--policy", "policies/production.yaml")


@pytest.mark.parametrize("agent", sorted({vector["agent"] for vector in VECTORS}))
def test_vectors_are_explained(agent: str) -> None:
    vectors = [vector for vector in VECTORS if vector["agent"] == agent]
    stdin = "".join(f"{vector['user']}\n" for vector in vectors).encode()
    shown = splitlane("assign", "--agent", agent, "--user", "-", *PRODUCTION, "--json", stdin=stdin)
    assert (shown.returncode, shown.stderr) == (0, "")
    rows = list(map(json.loads, shown.stdout.splitlines()))
    assert len(rows) == len(vectors)
    for row, vector in zip(rows, vectors, strict=True):
        assert {key: row[key] for key in ("agent", "user", "salt", "hash", "bucket")} == {
            key: vector[key] for key in ("agent", "user", "salt", "hash", "bucket")
        }
        assert row["percentage"] == 10
        assert (row["variant"] == "finetuned") == vector["finetuned_at"]["10"]
        for percentage, finetuned in vector["finetuned_at"].items():
            assert (row["enters_at"] <= float(percentage)) == finetuned


def test_users_are_rows_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    users = ["--user", "user-17", "--user", "", "--user", "evil\x1b[2Juser"]
    assert main(["assign", "--agent", "qa_agent", *users, *PRODUCTION]) == 0
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("qa_agent: 10 % fine-tuned, salt qa_agent/ft:open-mistral-7b:5010731d:20251031:ecc3829c, ")
    assert columns.split() == ["variant", "enters", "at", "bucket", "hash", "user"]
    assert rows[0].split() == ["baseline", "16.79", "%", "1678", "720725365", "user-17"]
    assert "never hashed" in rows[1]
    assert rows[2].endswith("evil?[2Juser")


def test_environment_names_the_policy() -> None:
    shown = splitlane("assign", "--agent", "qa_agent", "--user", "user-17", "--json", GENESIS_ENV="staging")
    assert json.loads(shown.stdout)["variant"] == "finetuned"


def test_unknown_agent_is_one_line_with_the_known_ones_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assign", "--agent", "qa", "--user", "u", *PRODUCTION]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert "'qa'" in line
    assert "qa_agent, content_agent" in line


def test_unusable_policy_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assign", "--agent", "a", "--user", "u", "--policy", str(tmp_path / "none.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.yaml" in line


def test_reader_that_has_enough_sees_no_traceback() -> None:
    command = [sys.executable, "-m", "proxy", "assign", "--agent", "qa_agent", "--user", "-", *PRODUCTION]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"".join(b"user-%d\n" % number for number in range(5000)))
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1

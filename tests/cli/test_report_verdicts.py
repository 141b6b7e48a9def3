"""`splitlane report` with a policy: what follows, on a store as a proxy leaves it; and its files."""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.cli.report_files import pictures_beside, write_whole
from proxy.ledger.batch import Batch, prepare, write
from proxy.ledger.database import Database
from proxy.ledger.migrate import migrate
from proxy.ledger.open import open_database
from proxy.words import Assignment, Decision, Failure, Record, Usage, Variant
from tests.ledger.stores import attempt
from tests.support.lane import FINETUNED
from tests.support.records import SOUND, row_of
from tests.support.served import write_policy

SALT = f"qa_agent/{FINETUNED}"
KEY = "0123456789abcdef" * 4


def requests(now: float) -> Iterator[Record]:
    """An hour of 160 users at 25 %, five requests each; every tenth fine-tuned one is rescued."""
    for number in range(800):
        user = number % 160
        variant = Variant.FINETUNED if user % 4 == 0 else Variant.BASELINE
        rescued = variant is Variant.FINETUNED and number % 40 == 0
        yield replace(
            SOUND,
            request_id=f"0190-{number:08d}",
            response_id=f"r-{number}",
            time=now - 3600 + number * 4,
            decision=Decision(variant, Assignment(variant.value), user * 10 + (0 if variant == "finetuned" else 5000)),
            percentage=25.0,
            salt=SALT,
            attempts=(attempt(Failure.SERVER_ERROR), attempt()) if rescued else (attempt(),),
            fallback=Failure.SERVER_ERROR if rescued else None,
            usage=Usage(10, 10),
            cost=0.002 if variant is Variant.FINETUNED else 0.001,
            unit=f"{user:032x}",
        )


def fill(database: Database, now: float) -> None:
    migrate(database)
    prepare(database)
    write(database, Batch("one", [row_of(each) for each in requests(now)], []), "p", now)


@pytest.fixture
def policy(tmp_path: Path, store_url: str) -> Path:
    """A policy over a store with an hour of requests; one agent of it has none."""
    if store_url.startswith("sqlite"):
        Path(store_url.removeprefix("sqlite:///")).parent.mkdir()
    database = open_database(store_url)
    try:
        fill(database, time.time())
    finally:
        database.close()
    models = {"fine_tuned": FINETUNED, "fallback": "open-mistral-7b"}
    return write_policy(
        tmp_path,
        "http://127.0.0.1:1",
        store={"url": store_url, "unit_key": KEY},
        agents={"qa_agent": models, "legal_agent": models},
    )


def reported(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["report", *argv]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def test_json_has_a_verdict_per_agent_and_the_windows_figures(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data: dict[str, Any] = json.loads(reported(capsys, "--policy", str(policy), "--json"))
    assert data.keys() == {"generated_at", "policy", "environment", "since", "until", "agents"}
    legal, qa = data["agents"]
    assert (qa["agent"], legal["agent"], legal["groups"]) == ("qa_agent", "legal_agent", [])
    assert [group["requests"] for group in qa["groups"]] == [200, 600]
    verdict = qa["verdict"]
    assert (verdict["percentage"], verdict["next_percentage"], verdict["salt"]) == (25, 50, SALT)
    (stage,) = verdict["stages"]
    assert stage["users"] == {"finetuned": 40, "baseline": 120}
    assert stage["requests"] == {"finetuned": 200, "baseline": 600}
    assert verdict["views"]["served"] == {
        "requests": {"finetuned": 180, "baseline": 620},
        "success": {"finetuned": 1.0, "baseline": 1.0},
    }
    assert verdict["health"]["fallback_rate"] == 0.1
    assert verdict["cost_usd_per_1000_requests"] == {
        "finetuned": pytest.approx(2.0),
        "baseline": pytest.approx(1.0),
    }
    assert legal["verdict"]["action"] in ("hold", "start")


def test_markdown_has_all_agents_on_top(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = reported(capsys, "--policy", str(policy), "--md").splitlines()
    assert lines[0] == "# Splitlane report"
    assert lines[4:6] == ["| agent | percentage | recommendation |", "|---|---:|---|"]
    assert [line.split(" | ")[:2] for line in lines[6:8]] == [["| legal_agent", "25 %"], ["| qa_agent", "25 %"]]
    assert lines.index("## legal_agent at 25 %") < lines.index("## qa_agent at 25 %")
    assert "assigned, which decides" in "".join(lines)
    assert not any(line.startswith("![") for line in lines)


def test_only_the_agents_that_are_asked_for(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(reported(capsys, "--policy", str(policy), "--json", "--agent", "legal_agent"))
    assert [agent["agent"] for agent in data["agents"]] == ["legal_agent"]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_file_is_written_with_its_pictures_and_nothing_else(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    output = tmp_path / "reports" / "ab_testing_results.md"
    for _ in range(2):
        assert reported(capsys, "--policy", str(policy), "--output", str(output)) == ""
    text = output.read_text()
    assert text.startswith("# Splitlane report\n")
    linked = re.findall(r"^!\[[^\]]+\]\(([^)]+)\)$", text, re.MULTILINE)
    assert "ab_testing_results_pictures/qa_agent-course.svg" in linked
    found = {str(path.relative_to(output.parent)) for path in output.parent.rglob("*") if path.is_file()}
    assert found == {"ab_testing_results.md", *linked}
    assert {path.name for path in tmp_path.iterdir()} == {"reports", "store", "policy.yaml", "home"}
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_without_matplotlib_the_report_is_written_and_says_how_to_get_pictures(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    reported(capsys, "--policy", str(policy), "--output", str(tmp_path / "r" / "x.md"))
    assert "pip install 'splitlane\\[pictures\\]'" in (tmp_path / "r" / "x.md").read_text()
    assert [path.name for path in (tmp_path / "r").rglob("*") if path.is_file()] == ["x.md"]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_json_to_a_file_has_no_pictures_unless_asked(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r" / "x.json"
    reported(capsys, "--policy", str(policy), "--output", str(output), "--json")
    assert json.loads(output.read_text())["agents"]
    assert [path.name for path in output.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_file_that_cannot_be_written_is_one_line_and_1(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["report", "--policy", str(policy), "--output", str(tmp_path / "file" / "x.md")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


def test_store_that_no_proxy_of_this_version_has_opened_gives_figures_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    database = open_database(url)
    fill(database, time.time())
    database.execute("UPDATE schema_version SET version = 1")
    database.close()
    policy = write_policy(tmp_path, "http://127.0.0.1:1", store={"url": url})
    out = reported(capsys, "--policy", str(policy), "--agent", "qa_agent")
    assert "qa_agent" in out
    assert "recommendation" not in out


# --- files ------------------------------------------------------------------------------------------


def test_file_is_replaced_as_a_whole_and_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "real.md", tmp_path / "link.md"
    target.write_text("old")
    link.symlink_to(target)
    with target.open() as reader:
        write_whole(link, "new")
        assert reader.read() == "old"
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.md", "real.md"]


def test_file_is_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "x.md", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x.md").stat().st_mode & 0o777 == 0o640


def test_draft_of_a_failed_write_is_gone(tmp_path: Path) -> None:
    (tmp_path / "x.md").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "x.md", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.md"]


def test_pictures_have_a_folder_beside_the_page() -> None:
    assert pictures_beside(Path("reports/ab_testing_results.md")) == Path("reports/ab_testing_results_pictures")

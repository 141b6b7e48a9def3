"""`splitlane report` as a process, on stores as a proxy leaves them."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.words import Variant
from tests.cli.running import splitlane
from tests.ledger.stores import START, insert, make_store, opened, record, url_of
from tests.support.served import write_policy

WINDOW = ("--since", "2023-11-14T22:00Z", "--until", "2023-11-15")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = make_store(tmp_path / "s.db")
    with opened(path) as database:
        insert(
            database, [record(1, "u"), record(2, "v", variant=Variant.BASELINE), record(3, "w", agent="legal_agent")]
        )
    return path


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a report ends with, and exit code 2."""
    assert main(["report", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("splitlane report: ")
    return line


def test_report_of_a_policys_store_says_first_what_follows(store: Path) -> None:
    policy = write_policy(store.parent, "http://127.0.0.1:1", store={"url": url_of(store)})
    shown = splitlane("report", "--policy", str(policy), *WINDOW)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == "Splitlane report"
    assert lines[2].endswith(" (test)")
    assert lines[4].split() == ["agent", "percentage", "recommendation"]
    assert lines[5].startswith("qa_agent        25 %  Hold")
    assert "2023-11-14 22:00 – 2023-11-15 00:00 UTC, 2 hours:" in lines
    assert "The policy has no such agent; no verdict." in lines, "legal_agent"
    assert "\x1b" not in shown.stdout


def test_report_of_a_store_alone_is_figures_without_colours(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--store", url_of(store), *WINDOW]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2023-11-14 22:00 – 2023-11-15 00:00 UTC, 2 hours"
    assert lines[2].split() == ["legal_agent", "fine-tuned"]
    assert "qa_agent          fine-tuned  baseline  difference" in lines
    assert "\x1b" not in "".join(lines)


def test_report_of_a_store_is_json_and_markdown(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("report", "--store", url_of(store), *WINDOW, "--agent", "qa_agent")
    assert main([*asked, "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [agent["agent"] for agent in data["agents"]] == ["qa_agent"]
    assert [group["requests"] for group in data["agents"][0]["groups"]] == [1, 1]
    assert main([*asked, "--md"]) == 0
    assert capsys.readouterr().out.startswith("# Splitlane report\n")


def test_default_window_is_the_last_day(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(store) as database:
        insert(database, [record(9, "x", time=time.time() - 60)])
    assert main(["report", "--store", url_of(store), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [group["requests"] for agent in data["agents"] for group in agent["groups"]] == [1]


@pytest.mark.parametrize(
    "window",
    [
        ("--since", "2023-11-14T22:59Z", "--until", "2023-11-14T23:01Z"),
        ("--since", "2023-11-15T00:30+02:00", "--until", "2023-11-14T23:30"),
        ("--since", "2023-11-14 22:00", "--until", "2023-11-15"),
    ],
)
def test_window_is_rounded_outwards_and_told(
    store: Path, capsys: pytest.CaptureFixture[str], window: tuple[str, ...]
) -> None:
    assert main(["report", "--store", url_of(store), *window]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2023-11-14 22:00 – 2023-11-15 00:00 UTC, 2 hours\n")
    assert "qa_agent" in out


def test_window_without_requests_is_said_and_no_error(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--store", url_of(store), "--since", "1h"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["no requests"]


def test_policy_without_a_store_is_told_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, "http://127.0.0.1:1")
    line = failed(capsys, "--policy", str(policy))
    assert "store.url" in line
    assert "--store" in line


def test_missing_file_says_that_no_proxy_has_written_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failed(capsys, "--store", url_of(tmp_path / "none.db"))
    assert "none.db" in line
    assert "no proxy has written" in line
    assert list(tmp_path.iterdir()) == []


def test_newer_database_is_not_read(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(store) as database:
        database.execute("UPDATE schema_version SET version = 99")
    assert "upgrade" in failed(capsys, "--store", url_of(store))


def test_file_that_is_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database, and longer than a header would be: " * 50)
    assert "not a database" in failed(capsys, "--store", url_of(tmp_path / "s.db"))
    (tmp_path / "empty.db").touch()
    failed(capsys, "--store", url_of(tmp_path / "empty.db"))


def test_server_that_cannot_be_had_is_one_line_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert "hunter2" not in failed(capsys, "--store", "postgresql://me:hunter2@127.0.0.1:1/x?connect_timeout=1")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--since", "yesterday"), "2026-11-20T00:00Z"),
        (("--since", "24"), "2026-11-20T00:00Z"),
        (("--store", "mysql://me:hunter2@db/x"), "sqlite:///FILE"),
        (("--store", "sqlite:///a", "--policy", "b"), "not allowed with"),
        (("--json", "--md"), "not allowed with"),
    ],
)
def test_wrong_argument_is_told_what_was_expected(
    argv: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", *argv])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert "hunter2" not in shown


def test_window_the_wrong_way_round_is_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--until" in failed(capsys, "--store", url_of(store), "--since", "1h", "--until", "2h")


def test_report_and_a_writing_proxy_do_not_wait_for_each_other(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(store) as proxy:
        proxy.execute("BEGIN IMMEDIATE")
        proxy.execute("DELETE FROM hours")
        assert main(["report", "--store", url_of(store), *WINDOW, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["agents"]) == 2
        proxy.execute("COMMIT")
    with opened(store, read_only=True) as reader, reader.transaction(), opened(store) as proxy:
        reader.execute("SELECT count(*) FROM hours")
        insert(proxy, [record(9, "x", time=START)])


def test_report_changes_nothing(store: Path) -> None:
    before = store.read_bytes()
    assert main(["report", "--store", url_of(store), *WINDOW]) == 0
    assert store.read_bytes() == before
    with opened(store, read_only=True) as database, pytest.raises(Exception, match="readonly"):
        database.execute("DELETE FROM hours")
    assert sqlite3.connect(store).execute("SELECT count(*) FROM hours").fetchone() == (3,)

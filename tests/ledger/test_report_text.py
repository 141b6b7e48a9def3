"""What a person and a machine see of a report."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.ledger.database import Database
from proxy.ledger.feedback import feedback_row, join, keep
from proxy.ledger.report import Report, Window, read_report
from proxy.ledger.report_text import json_of, lines_of, markdown_of
from proxy.words import Assignment, Failure, Feedback, Usage, Variant
from tests.ledger.stores import HOUR, START, attempt, insert, make_store, opened, record

DAY = Window(int(START // HOUR), int(START // HOUR) + 24)
VERDICTS = re.compile(r"\b(better|worse|significant|winner|pass|fail|hold)\b", re.IGNORECASE)


@pytest.fixture
def report(tmp_path: Path) -> Iterator[Report]:
    with opened(make_store(tmp_path / "s.db")) as database:
        fill(database)
        yield read_report(database, DAY)


def fill(database: Database) -> None:
    lost = (attempt(Failure.RATE_LIMITED),)
    for number in range(10):
        rescued = {"fallback": Failure.RATE_LIMITED, "attempts": (*lost, attempt())} if number == 0 else {}
        usage = Usage(1000, 200, estimated=number < 5)
        insert(database, [record(number, f"u{number}", latency=0.5, ttft=0.25, usage=usage, cost=0.0009, **rescued)])
        failed = {"failure": Failure.RATE_LIMITED, "attempts": lost} if number < 2 else {}
        baseline = record(100 + number, f"v{number % 5}", variant=Variant.BASELINE, latency=3.0, cost=0.0003, **failed)
        insert(database, [baseline])
    insert(database, [record(200, variant=Variant.BASELINE, assignment=Assignment.UNASSIGNED, bucket=-1)])
    with database.transaction():
        keep(database, [feedback_row(Feedback(f"f{n}", f"0190-{n:08d}", "", 1.0, "", START)) for n in (1, 2, 101)])
        keep(database, [feedback_row(Feedback("f", "0190-00000102", "", 0.5, "", START))])
        join(database, START)


def test_text_has_a_column_per_group_and_the_difference_of_the_arms(report: Report) -> None:
    head, blank, *lines = lines_of(report)
    assert (head, blank) == ("2023-11-14 22:00 – 2023-11-15 22:00 UTC, 24 hours", "")
    rows = {cells[0]: cells[1:] for line in lines if len(cells := re.split(r"  +", line)) > 1}
    assert rows["qa_agent"] == ["fine-tuned", "baseline", "difference", "unassigned: baseline"]
    assert rows["users"] == ["10", "5", "0"]
    assert rows["success"] == ["100.00 %", "80.00 %", "+20.00 pp", "100.00 %"]
    assert rows["first attempt"] == ["90.00 %", "80.00 %", "+10.00 pp", "100.00 %"]
    milliseconds, s, difference, _ = rows["latency p95"]
    assert float(milliseconds.removesuffix(" ms")) == pytest.approx(500, rel=0.025)
    assert float(s.removesuffix(" s")) == pytest.approx(3.0, rel=0.025)
    assert float(difference.removesuffix(" s")) == pytest.approx(-2.5, rel=0.05)
    assert rows["ttft p50"][1:] == ["–", "–", "–"]
    assert rows["cost per request"] == ["$0.000900", "$0.000300", "+$0.000600", "$0.00"]
    assert rows["cost"] == ["$0.00900", "$0.00300", "$0.00"]
    assert rows["tokens in"] == ["10,000", "0", "0"]
    assert rows["tokens estimated"] == ["50.00 %", "0.00 %", "0.00 %"]
    assert rows["fallback: rate_limited"] == ["1", "0", "0"]
    assert rows["failed: rate_limited"] == ["0", "2", "0"]
    assert rows["rated"] == ["2", "2", "0"]
    assert rows["mean rating"] == ["1.000", "0.750", "+0.250", "–"]


def test_text_says_which_view_decides_and_gives_no_verdict(report: Report) -> None:
    text = "\n".join(lines_of(report))
    assert re.search(r"^success: intention to treat.* decides\.$", text, re.MULTILINE)
    assert not VERDICTS.search(text)
    assert "\x1b" not in text


def test_columns_of_text_are_aligned(report: Report) -> None:
    table = [line for line in lines_of(report) if "  " in line]
    ends = [table[0].index(title) + len(title) for title in ("fine-tuned", "baseline", "difference")]
    assert len(table) == 19
    for line in table[1:]:
        for end in ends:
            assert line[end : end + 2] in ("", "  ")


def test_one_arm_has_no_difference(tmp_path: Path) -> None:
    with opened(make_store(tmp_path / "s.db")) as database:
        insert(database, [record(1, "u", variant=Variant.BASELINE)])
        lines = list(lines_of(read_report(database, DAY)))
    assert lines[2].split() == ["qa_agent", "baseline"]


def test_markdown_is_the_same_table(report: Report) -> None:
    lines = list(markdown_of(report))
    assert lines[:5] == ["# Splitlane report", "", next(lines_of(report)), "", "## qa_agent"]
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "|  | fine-tuned | baseline | difference | unassigned: baseline |"
    assert table[1] == "|---|---:|---:|---:|---:|"
    assert "| success | 100.00 % | 80.00 % | +20.00 pp | 100.00 % |" in table
    assert {line.count("|") for line in table} == {6}
    assert any(line.startswith("- success: intention to treat") for line in lines)


def test_json_has_every_number_unrounded(report: Report) -> None:
    data = json.loads(json.dumps(json_of(report)))
    assert (data["since"], data["until"]) == ("2023-11-14T22:00:00Z", "2023-11-15T22:00:00Z")
    (agent,) = data["agents"]
    treated, control, unassigned = agent["groups"]
    assert [group["compared"] for group in agent["groups"]] == [True, True, False]
    assert (treated["assignment"], treated["variant"], unassigned["assignment"]) == (
        "finetuned",
        "finetuned",
        "unassigned",
    )
    assert (treated["users"], treated["requests"], treated["success"], treated["first_attempt"]) == (10, 10, 1.0, 0.9)
    assert treated["latency_seconds"].keys() == {"p50", "p95", "p99"}
    assert treated["ttft_seconds"]["p95"] == pytest.approx(0.25, rel=0.025)
    assert control["ttft_seconds"] == {"p50": None, "p95": None}
    assert treated["tokens"] == {"input": 10_000, "output": 2000, "cached": 0, "reasoning": 0, "estimated_share": 0.5}
    assert (control["failures"], treated["fallbacks"]) == ({"rate_limited": 2}, {"rate_limited": 1})
    assert control["feedback"] == {"rated": 2, "mean": 0.75}
    assert unassigned["feedback"] == {"rated": 0, "mean": None}


def test_empty_window_is_said() -> None:
    empty = Report(Window(0, 1), ())
    assert list(lines_of(empty)) == ["1970-01-01 00:00 – 1970-01-01 01:00 UTC, 1 hour", "no requests"]
    assert list(markdown_of(empty))[-1] == "No requests."
    assert json_of(empty) == {"since": "1970-01-01T00:00:00Z", "until": "1970-01-01T01:00:00Z", "agents": []}

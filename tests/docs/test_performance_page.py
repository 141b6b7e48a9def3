"""docs/performance.md says what the newest result files say, and nothing measured besides."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.check import FLOORS
from bench.page import PAGE, PRICE, generated, newest, written
from bench.picture import words
from bench.plan import RESULTS

GENERATED = re.compile(r"<!-- generated: ([\w-]+) -->.*?<!-- end -->", re.DOTALL)
# Figures that a run gives; intervals and sizes that a run is given are written with the same units.
MEASURED = re.compile(r"\b[\d.,]+ (?:µs|MiB|KiB|requests/s)")


def test_generated_parts_are_what_the_results_say() -> None:
    assert written(PAGE.read_text()) == PAGE.read_text(), "run: python -m bench.page"


def test_measured_figures_stand_in_generated_parts_only() -> None:
    assert MEASURED.findall(GENERATED.sub("", PAGE.read_text())) == []


def test_instructions_on_the_page_are_the_recorded_ones() -> None:
    page = PAGE.read_text()
    for name, count in json.loads(FLOORS.read_text())["instructions"].items():
        assert f"| {name} | {count:,} |" in page


@pytest.mark.parametrize("case", ["json", "sse", "sse-1000", "memory"])
def test_cases_beside_rivals_are_on_the_page(case: str) -> None:
    path = newest(case)
    assert path is not None
    assert path.name in generated(case)
    assert case in GENERATED.findall(PAGE.read_text())


@pytest.mark.parametrize("case", ["json", "sse", "sse-1000"])
def test_picture_is_drawn_from_the_result_on_the_page(case: str) -> None:
    path = newest(case)
    assert path is not None
    drawn = path.with_suffix(".svg").read_text()
    assert words(json.loads(path.read_text())) in drawn
    assert f"]({Path('../bench/results', path.with_suffix('.svg').name)})" in generated(case)


def test_changed_figure_makes_the_page_out_of_date(tmp_path: Path) -> None:
    content = _json_result()
    content["rows"][1]["rps"] *= 2
    (tmp_path / "2026-01-01-json.json").write_text(json.dumps(content))
    assert written(PAGE.read_text(), tmp_path) != PAGE.read_text()


def test_case_without_a_result_is_said_to_be_unmeasured(tmp_path: Path) -> None:
    assert "Not measured yet" in generated("json", tmp_path)


def test_money_is_cpu_time_at_the_stated_price(tmp_path: Path) -> None:
    content = _json_result()
    content["rows"] = [{"contender": "one", "cpu_us": 3600.0}]
    (tmp_path / "2026-01-01-json.json").write_text(json.dumps(content))
    # 3,600 µs a request is an hour for a million.
    assert f"{PRICE:.5f}" in generated("money", tmp_path)


def _json_result() -> dict[str, Any]:
    path = max(RESULTS.glob("*-json.json"))
    content: dict[str, Any] = json.loads(path.read_text())
    return content

"""docs/reliability.md: its figures are those of the latest runs, its promises name tests that exist."""

import json
import re
from typing import Any

import pytest

from bench.plan import RESULTS
from bench.storm_case import ENOUGH
from tests.docs.pages import ROOT, bare, rows, section, text_of

PAGE = "docs/reliability.md"
FORMS = {
    "factor": "{}×", "goodput": "{:.1f}", "quiet": "{:.0%}", "p50_ms": "{:.0f}", "p99_ms": "{:.0f}",
    "refused_p50_ms": "{:.1f}", "refused_p99_ms": "{:.1f}", "rss_mib": "{:.1f}",
}  # fmt: skip


def latest(case: str) -> dict[str, Any]:
    """The newest result of a case that was kept."""
    path = max(RESULTS.glob(f"*-{case}.json"))
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["problems"] == [], path.name
    return found


def test_figures_of_overload_are_those_of_the_latest_run() -> None:
    result = latest("overload")
    documented = [tuple(cells) for cells in rows(section(PAGE, "Overload"), "offered, of capacity")]
    assert documented == [tuple(form.format(row[key]) for key, form in FORMS.items()) for row in result["rows"]]
    settings = result["settings"]
    said = f"Room for {settings['max_in_flight']} requests at an upstream that takes {settings['latency_ms']} ms"
    assert f"{said}: {settings['capacity']} a second." in section(PAGE, "Overload")


def test_figures_of_the_storm_are_those_of_the_latest_run() -> None:
    result = json.loads(max(RESULTS.glob("*-storm.json")).read_text())
    columns = ("factor", "served", "ratio", "refused", "p50_ms", "p99_ms")
    forms = {key: form for key, _, form in result["columns"]}
    documented = [tuple(cells) for cells in rows(section(PAGE, "Overload"), "connections, of room")]
    assert documented == [tuple(forms[key].format(row[key]) for key in columns) for row in result["rows"]]
    assert min(row["ratio"] for row in result["rows"]) >= ENOUGH


@pytest.mark.parametrize(("case", "column"), [("soak", 1), ("soak-postgresql", 2)])
def test_figures_of_the_soaks_are_those_of_the_latest_runs(case: str, column: int) -> None:
    result = latest(case)
    assert result["settings"]["seconds"] >= 600
    documented = {
        cells[0]: cells[column] for cells in rows(section(PAGE, "Ten minutes, and an hour, of a bad day"), "what")
    }
    (answers, outcomes, events, memory) = result["notes"]
    numbers = [int(each) for each in re.findall(r"\d+", f"{answers} {outcomes} {events}")]
    slope = re.search(r"(-?[\d.]+ ± [\d.]+) MiB", memory)
    assert slope is not None
    names = (
        "requests", "answered as they should", "left by their clients", "lost", "broken off after content, visibly",
        "outcomes", "reloads", "outages of the store", "records lost",
    )  # fmt: skip
    assert documented == {
        "seconds, requests a second": f"{result['settings']['seconds']}, {result['settings']['requests_per_second']}",
        **dict(zip(names, (f"{number:,}" for number in numbers), strict=True)),
        "memory, first and last": f"{result['rows'][0]['rss_mib']:.1f} and {result['rows'][-1]['rss_mib']:.1f} MiB",
        "growth an hour": f"{slope[1]} MiB",
    }


def test_promises_name_tests_that_exist() -> None:
    promises = rows(section(PAGE, "What a caller may rely on"), "promise")
    assert len(promises) >= 8
    for promise, held in promises:
        names = [bare(each) for each in held.split(", ")]
        assert names, promise
        assert all((ROOT / name).is_file() for name in names), promise


def test_places_for_other_figures_are_marked() -> None:
    """Whoever fills one takes its mark away."""
    assert text_of(PAGE).count("<!--") <= 3

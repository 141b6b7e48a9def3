"""What a run leaves behind: a table, a result file, and the facts of the machine it ran on."""

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bench.fleet import find_tools
from bench.plan import HERE, PINNED, RESULTS, RIVALS, ROOT, RUN, BenchError


class Column(NamedTuple):
    """One column of a table: a row's key, its title, and how a value is written."""

    key: str
    title: str
    form: str = "{}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case measured: one row per contender."""

    case: str
    settings: dict[str, int]
    columns: Sequence[Column]
    rows: list[dict[str, object]]
    notes: list[str] = field(default_factory=list)


def table(outcome: Outcome) -> str:
    """A Markdown table, aligned for a terminal too."""
    return markdown(outcome.columns, outcome.rows)


def markdown(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> str:
    """The same of a result file's columns and rows."""
    lines = [[column.title for column in columns]]
    lines += [[column.form.format(row[column.key]) if column.key in row else "–" for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)])
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        + " |"
        for cells in lines
    )


def document(outcome: Outcome, *, quick: bool) -> dict[str, object]:
    """The result file's content."""
    return {
        "case": outcome.case,
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "settings": outcome.settings,
        "notes": outcome.notes,
        "machine": machine(),
        "columns": outcome.columns,
        "rows": [{key: _short(value) for key, value in row.items()} for row in outcome.rows],
    }


def write(content: dict[str, object]) -> Path:
    """Write a result file and return its path; quick runs stay in the run folder."""
    folder = RUN if content["quick"] else RESULTS
    folder.mkdir(exist_ok=True)
    path = folder / f"{str(content['time'])[:10]}-{content['case']}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def machine() -> dict[str, object]:
    """What the figures depend on; nothing that names the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    packages = ("aiohttp", "uvloop", "httptools", "orjson")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": " ".join(sys.version.split()),  # with its build: two of one version differ by a tenth
        "splitlane": _first_line(sys.executable, "-P", "-m", "proxy", "--version").removeprefix("splitlane "),
        **{name: metadata.version(name) for name in packages},
        "nginx": _tool("nginx").removeprefix("nginx version: nginx/"),
        "wrk": _tool("wrk").partition(" Copyright")[0].removeprefix("wrk "),
        "rivals": rivals(),
        "commit": _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
    }


def rivals() -> dict[str, str]:
    """The pinned versions of the rivals that are installed."""
    found = {}
    for pins in sorted((HERE / "rivals").glob("*.txt")):
        first = next(line for line in pins.read_text().splitlines() if line.startswith((pins.stem, f"{pins.stem}-")))
        found[pins.stem] = first.partition("==")[2]
    package = json.loads((HERE / "rivals" / "portkey" / "package.json").read_text())
    found["portkey"] = package["dependencies"]["@portkey-ai/gateway"]
    return {name: version for name, version in found.items() if (RIVALS / name / PINNED).is_file()}


def progress(text: str) -> None:
    """One line that is overwritten, on a terminal only; an empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _tool(name: str) -> str:
    try:
        return _first_line(find_tools(name)[name], "-v")
    except BenchError:  # not every benchmark needs it
        return "absent"


def _first_line(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0] if lines else "unknown"


def _short(value: object) -> object:
    """Four significant digits are more than a benchmark knows."""
    return float(f"{value:.4g}") if isinstance(value, float) else value

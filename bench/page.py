"""`python -m bench.page`: the generated parts of docs/performance.md, anew from the newest result of each case.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; all else on the page is written by hand.  Every
number inside comes from a result file, which the part names.  `--check` writes nothing and exits 1 where the page
is not what it would write.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.picture import MEANINGS, beside, words
from bench.plan import RESULTS, ROOT
from bench.report import Column, markdown

PAGE = ROOT / "docs" / "performance.md"
PRICE = 0.04  # USD for an hour of one core, as clouds list it for their general-purpose machines; an assumption
BUSY = 0.6  # of its core: below it, the yardstick waited for a machine that did something else
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
Content = dict[str, Any]


def newest(case: str, results: Path = RESULTS) -> Path | None:
    """The newest result file of a case; the oldest ones do not say how their columns are written, and do not count."""
    files = sorted(results.glob(f"????-??-??-{case}.json"), reverse=True)
    return next((file for file in files if "columns" in json.loads(file.read_text())), None)


def written(text: str, results: Path = RESULTS) -> str:
    """The page's text with its generated parts as the results have them."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}{generated(found[2], results)}\n{found[3]}"

    return _PART.sub(part, text)


def generated(name: str, results: Path = RESULTS) -> str:
    """One generated part: a case's, or one of several results'; raises KeyError on a case's unknown column."""
    case, make = PARTS.get(name, (name, _case))
    path = newest(case, results)
    if path is None:
        return "\nNot measured yet.\n"
    return f"\n{make(path, json.loads(path.read_text()))}\n"


def _case(path: Path, content: Content) -> str:
    """A case's picture, table, notes and source."""
    parts = []
    if content["case"] in MEANINGS and beside(path).is_file():
        parts.append(f"![{words(content)}](../bench/results/{beside(path).name})")
    columns = [Column(*column) for column in content["columns"]]
    parts.append(markdown(columns, content["rows"]))
    parts += [f"Note: {note}." for note in content["notes"]]
    settings = ", ".join(f"{key} {value}" for key, value in content["settings"].items())
    parts.append(f"Source: {_link(path)} ({settings}).")
    return "\n\n".join(parts)


def _link(path: Path) -> str:
    return f"[{path.name}](../bench/results/{path.name})"


def _machine(path: Path, content: Content) -> str:
    facts = {key: value for key, value in content["machine"].items() if key not in ("rivals", "commit")}
    facts |= content["machine"].get("rivals", {})
    lines = ["| what | version or number |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items())]
    return "\n".join([*lines, "", f"Commit {content['machine']['commit']}, {content['time'][:10]}; {_link(path)}."])


def _money(path: Path, content: Content) -> str:
    """From CPU time: what a million requests take of a core, and what such a core costs."""
    columns = (
        Column("contender", "contender"),
        Column("cpu_us", "CPU µs/request", "{:,.1f}"),
        Column("seconds", "core seconds per million", "{:,.0f}"),
        Column("usd", "USD per million", "{:.5f}"),
        Column("per_usd", "million requests per USD", "{:,.1f}"),
    )
    rows = []
    for row in content["rows"]:
        if "cpu_us" in row:
            usd = row["cpu_us"] / 3600 * PRICE  # microseconds for one are seconds for a million
            figures = {"cpu_us": row["cpu_us"], "seconds": row["cpu_us"], "usd": usd, "per_usd": 1 / usd}
            rows.append({"contender": row["contender"], **figures})
    price = f"At {PRICE:.2f} USD per core hour, an assumption; from the CPU times in {_link(path)}."
    return f"{markdown(columns, rows)}\n\n{price}"


def _short(path: Path, content: Content) -> str:
    """The first sentences: what one reader in ten wants to know."""
    rows = {row["contender"]: row for row in content["rows"]}
    ours = [rows[name] for name in ("splitlane", "splitlane-all") if name in rows]
    lines = [
        f"- `{row['contender']}`: {row['ratio']:.2f} of nginx's throughput ({row['ratio_min']:.2f} … "
        f"{row['ratio_max']:.2f} over the rounds), {row['cpu_us']:.0f} µs of CPU a request, p99 {row['p99_ms']:.1f} ms."
        for row in ours
    ]
    others = ", ".join(
        f"{name} {row['ratio']:.2g}"
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["ratio"])
        if not name.startswith("splitlane") and name not in ("direct", "nginx")
    )
    lines.append(f"- The others, in the same rounds: {others}.")
    if (had := rows["nginx"]["busy"]) < BUSY:
        share = f"even nginx had only {had:.0%} of its core's time"
        lines.append(
            f"- **The machine was busy with other work** ({share}): take the ratios roughly, and no other figure."
        )
    return "\n".join(lines)


# Parts that are no case's table: the case they are made from, and how.
PARTS: dict[str, tuple[str, Callable[[Path, Content], str]]] = {
    "short": ("json", _short),
    "money": ("json", _money),
    "machine": ("json", _machine),
}


def main() -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is out of date")
    check = parser.parse_args().check
    before = PAGE.read_text()
    after = written(before)
    if check:
        return int(before != after)
    PAGE.write_text(after)
    print(f"{PAGE}: {'as it was' if before == after else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Has the request path become slower?  Instruction counts and the ratio to nginx against what was recorded.

python -m bench.check              # fails where either is worse than recorded: make bench-check
python -m bench.check --record     # these are the floors from now on

Exit codes: 0 as good as recorded, 1 worse, 2 something is missing, or nothing was recorded for this interpreter.
"""

import argparse
import json
import statistics
import sys

from bench.contenders import CONTENDERS, YARDSTICK, chosen
from bench.fleet import find_tools
from bench.instructions import counts
from bench.json_case import interleaved
from bench.plan import HERE, BenchError, Cores, Plan
from bench.report import progress

FLOORS = HERE / "floors.json"
# The same wheel's counts differ by less; what a change costs on purpose is recorded with it.
MORE_INSTRUCTIONS = 0.03
ROUNDS, SECONDS = 5, 2
# Between what a run on a shared machine shows and what the next one must reach.
ROOM = 0.8


def slower(recorded: dict[str, int], found: dict[str, int]) -> list[str]:
    """A line for each function that takes more instructions than it did, or that nobody counts any more."""
    lines = [f"{name}: recorded, but no longer counted" for name in recorded if name not in found]
    for name, count in found.items():
        before = recorded.get(name)
        if before is None:
            lines.append(f"{name}: {count:,} instructions, of which nothing is recorded")
        elif count > before * (1 + MORE_INSTRUCTIONS):
            lines.append(f"{name}: {count:,} instructions instead of {before:,} ({count / before - 1:+.1%})")
    return lines


def below(floor: float, ratios: list[float]) -> str | None:
    """A line where not one of the rounds came up to the floor."""
    if max(ratios) >= floor:
        return None
    return f"JSON: {statistics.median(ratios):.3f} of nginx ({min(ratios):.3f} … {max(ratios):.3f}), floor {floor:.3f}"


def ratios() -> list[float]:
    """Requests a second as a share of nginx's, by round.  Raises BenchError."""
    plan = Plan(
        contenders=chosen(["splitlane"], [], CONTENDERS, YARDSTICK), cores=Cores.of_this_machine(), rounds=ROUNDS,
        seconds=SECONDS, streams=0, chunks=0, interval_ms=0, say=progress,
    )  # fmt: skip
    found = [each.ratio for each in interleaved(plan, "json", YARDSTICK)["splitlane"]]
    progress("")
    return found


def run(*, record: bool) -> int:
    """Measure, then compare or record."""
    find_tools("nginx", "wrk", "taskset", "valgrind")
    progress("counting instructions")
    found, here = counts()
    seen = ratios()
    if record:
        floor = round(ROOM * statistics.median(seen), 3)
        FLOORS.write_text(json.dumps({**here, "json": floor, "instructions": found}, indent=1) + "\n")
        print(f"recorded in {FLOORS}: JSON {floor} of nginx, {sum(found.values()):,} instructions")
        return 0
    try:
        floors = json.loads(FLOORS.read_text())
    except FileNotFoundError:
        raise BenchError(f"{FLOORS} is missing: bench.check --record writes it", 2) from None
    if (for_these := {key: floors[key] for key in here}) != here:
        raise BenchError(f"floors are recorded for {for_these}, and this is {here}: bench.check --record", 2)
    worse = slower(floors["instructions"], found)
    if (line := below(floors["json"], seen)) is not None:
        worse.append(line)
    for line in worse:
        print(f"slower: {line}")
    if not worse:
        print(
            f"as good as recorded: JSON {statistics.median(seen):.3f} of nginx (floor {floors['json']:.3f}), "
            f"{sum(found.values()):,} instructions (recorded {sum(floors['instructions'].values()):,})"
        )
    return 1 if worse else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the floors instead of comparing")
    arguments = parser.parse_args()
    try:
        return run(record=arguments.record)
    except BenchError as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

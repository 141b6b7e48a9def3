"""`python -m bench [CASE|all]`: run cases, print tables, write results.

Exit codes: 0 measured, 1 a measurement failed, 2 the machine or the command line lacks something,
130 interrupted.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import (
    agents_case,
    everything,
    faults_case,
    features,
    growth_case,
    json_case,
    latency_case,
    lifetime_case,
    memory_case,
    sse_case,
    storm_case,
)
from bench.contenders import CONTENDERS, QUICK, YARDSTICK, Contender, chosen
from bench.fleet import find_tools
from bench.lineup import installed
from bench.picture import MEANINGS, draw
from bench.plan import BenchError, Cores, Plan, loudly
from bench.report import Outcome, document, progress, table, write

CASES: dict[str, Callable[[Plan], Outcome]] = {
    "json": json_case.run,
    "sse": sse_case.run,
    "sse-1000": partial(sse_case.run, case="sse-1000"),
    "memory": memory_case.run,
    "latency": latency_case.run,
    "growth": growth_case.run,
    "faults": faults_case.run,
    "lifetime": lifetime_case.run,
    "agents": agents_case.run,
    "storm": storm_case.run,
    "features": features.run,
}
ALL = tuple(name for name in CASES if name != "features")  # which is Splitlane beside itself, and takes long
QUICK_CASES = ("json", "sse", "memory")
ROUNDS = {"json": 7, "sse": 9, "sse-1000": 3, "memory": 1}
ROUNDS |= {"latency": 7, "growth": 5, "faults": 5, "agents": 5, "storm": 5, "features": 11}
ROUNDS["lifetime"] = 9  # starts
SECONDS = {"features": 1, "agents": 2, "lifetime": 60}
QUICK_SECONDS = {"lifetime": 6}
STREAMS = {"sse": 100, "sse-1000": 1000, "memory": 2000}
QUICK_STREAMS = {"sse": 50, "sse-1000": 500, "memory": 200}
CHUNKS = {"sse-1000": 25}
INTERVAL_MS = {"sse-1000": 250}  # 4,000 chunks a second: the load's core has room for them
# Where not all contenders take part, or others do: who, and the yardstick among them.
AMONG: dict[str, tuple[tuple[Contender, ...], str]] = {
    "latency": (everything.CONTENDERS, YARDSTICK),
    "growth": (everything.CONTENDERS, YARDSTICK),
    "lifetime": (everything.CONTENDERS, YARDSTICK),
    "faults": (faults_case.CONTENDERS, faults_case.YARDSTICK),
    "agents": (agents_case.CONTENDERS, agents_case.YARDSTICK),
    "storm": (storm_case.CONTENDERS, storm_case.YARDSTICK),
    "features": (features.CONTENDERS, features.YARDSTICK),
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    names = ", ".join(contender.name for contender in CONTENDERS)
    for case in ("features", "faults", "agents"):
        names += f"; {case}: {', '.join(contender.name for contender in AMONG[case][0])}"
    parser = argparse.ArgumentParser(prog="python -m bench", description="Load benchmarks of Splitlane.")
    parser.add_argument("case", nargs="?", choices=[*CASES, "all"], default="all")
    parser.add_argument("--rounds", type=int, help=f"interleaved rounds; of lifetime: starts ({_told(ROUNDS)})")
    parser.add_argument("--seconds", type=int, help=f"of load per round and contender (3; {_told(SECONDS)})")
    parser.add_argument("--streams", type=int, help="concurrent streams (sse 100, memory 2000)")
    parser.add_argument("--chunks", type=int, help="chunks per stream, sse (100), sse-1000 (25)")
    parser.add_argument("--interval-ms", type=int, help="between two chunks, sse (20), sse-1000 (250)")
    parser.add_argument(
        "--quick", action="store_true", help=f"a short look: 2 small rounds of {', '.join(QUICK)}; no result file"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"of {names}; repeatable")
    parser.add_argument(
        "--command",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="start a contender otherwise; may use {python}, {policy}, {bench}, {run}; runs in bench/run",
    )
    return parser


def _told(numbers: dict[str, int]) -> str:
    return ", ".join(f"{case} {number}" for case, number in numbers.items())


def plan_of(case: str, options: argparse.Namespace) -> Plan:
    """The plan of one case; raises ValueError on an option that makes no sense."""
    quick = options.quick
    numbers = {
        "rounds": options.rounds or (min(2, ROUNDS[case]) if quick else ROUNDS[case]),
        "seconds": options.seconds or (QUICK_SECONDS.get(case, 1) if quick else SECONDS.get(case, 3)),
        "streams": options.streams or (QUICK_STREAMS if quick else STREAMS).get(case, 0),
        "chunks": options.chunks or (10 if quick and case in CHUNKS else 25 if quick else CHUNKS.get(case, 100)),
        "interval_ms": options.interval_ms or INTERVAL_MS.get(case, 20),
    }
    if any(number < 0 for number in numbers.values()):
        raise ValueError("numbers must be positive")
    among, yardstick = AMONG.get(case, (CONTENDERS, YARDSTICK))
    known = {contender.name for contender in among}
    # Of all cases, each takes of what was named what it has.
    only = [name for name in options.only if name in known or options.case != "all"]
    commands = [each for each in options.command if each.partition("=")[0] in known or options.case != "all"]
    short = QUICK if quick and among is CONTENDERS and not only else ()
    contenders = chosen(only or short, commands, among, yardstick)
    plan = Plan(contenders=contenders, cores=Cores.of_this_machine(), say=progress, **numbers)
    for contender in contenders:
        if contender.rival and not installed(contender):
            plan.lose(contender, "it is not installed: python -m bench.install")
    return plan


def run(options: argparse.Namespace) -> None:
    """Run the cases asked for."""
    find_tools("nginx", "wrk", "taskset")
    documents = []
    for case in (QUICK_CASES if options.quick else ALL) if options.case == "all" else [options.case]:
        plan = plan_of(case, options)
        outcome = CASES[case](plan)
        outcome.notes.extend(plan.notes())
        progress("")
        content = document(outcome, quick=options.quick)
        path = write(content)
        documents.append(content)
        if not options.json:
            settings = ", ".join(f"{key} {value}" for key, value in outcome.settings.items())
            print(f"\n{case} ({settings})\n\n{table(outcome)}\n")
            for note in outcome.notes:
                print(f"note: {note}")
            print(f"written to {path}", flush=True)
        if case in MEANINGS:
            _draw(path)
    if options.json:
        print(json.dumps(documents, indent=1))


def _draw(path: Path) -> None:
    try:
        progress(f"drawn: {draw(path)}")
    except BenchError as error:  # the numbers are there all the same
        loudly(str(error))


def main() -> int:
    """Entry point; the exit code."""
    options = arguments().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # leave as by Ctrl-C: what was started is ended
        signal.signal(number, signal.default_int_handler)
    try:
        run(options)
    except BenchError as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress("")
        print("bench: interrupted; everything started has been ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

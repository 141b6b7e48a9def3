"""`python -m bench [json|sse|memory|features|all]`: run cases, print tables, write results.

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

from bench import features, json_case, memory_case, sse_case
from bench.contenders import CONTENDERS, QUICK, YARDSTICK, chosen
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
    "features": features.run,
}
ALL = ("json", "sse", "sse-1000", "memory")  # beside other proxies; `features` is Splitlane beside itself
QUICK_CASES = ("json", "sse", "memory")
ROUNDS = {"json": 7, "sse": 5, "sse-1000": 3, "memory": 1, "features": 11}
SECONDS = {"features": 1}
STREAMS = {"json": 0, "sse": 100, "sse-1000": 1000, "memory": 2000, "features": 0}
QUICK_STREAMS = {"json": 0, "sse": 50, "sse-1000": 500, "memory": 200, "features": 0}
CHUNKS = {"sse-1000": 25}
INTERVAL_MS = {"sse-1000": 250}  # 4,000 chunks a second: the load's core has room for them


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    names = ", ".join(contender.name for contender in CONTENDERS)
    names += f"; features: {', '.join(contender.name for contender in features.CONTENDERS)}"
    parser = argparse.ArgumentParser(prog="python -m bench", description="Load benchmarks of Splitlane.")
    parser.add_argument("case", nargs="?", choices=[*CASES, "all"], default="all")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (json 7, sse 5, features 11; memory has none)")
    parser.add_argument("--seconds", type=int, help="of load per round and contender, json (3), features (1)")
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


def plan_of(case: str, options: argparse.Namespace) -> Plan:
    """The plan of one case; raises ValueError on an option that makes no sense."""
    quick = options.quick
    numbers = {
        "rounds": options.rounds or (min(2, ROUNDS[case]) if quick else ROUNDS[case]),
        "seconds": options.seconds or (1 if quick else SECONDS.get(case, 3)),
        "streams": options.streams or (QUICK_STREAMS if quick else STREAMS)[case],
        "chunks": options.chunks or (10 if quick and case in CHUNKS else 25 if quick else CHUNKS.get(case, 100)),
        "interval_ms": options.interval_ms or INTERVAL_MS.get(case, 20),
    }
    if any(number < 0 for number in numbers.values()):
        raise ValueError("numbers must be positive")
    among, yardstick = (features.CONTENDERS, features.YARDSTICK) if case == "features" else (CONTENDERS, YARDSTICK)
    short = QUICK if quick and among is CONTENDERS and not options.only else ()
    contenders = chosen(options.only or short, options.command, among, yardstick)
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

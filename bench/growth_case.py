"""Growth: what a request takes of time and CPU against the size of its body, one connection, one after the other."""

import math
import statistics
import time
from contextlib import closing
from dataclasses import dataclass

from bench.chat import Connection, chat, pinned
from bench.contenders import YARDSTICK, Contender
from bench.everything import OURS, sweep, verdict
from bench.fleet import Fleet, Process
from bench.lineup import start_contender, start_json_upstream
from bench.plan import Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range

# Bytes of a body, and how many are sent in a round.
SIZES = {1_000: 200, 10_000: 200, 100_000: 100, 1_000_000: 30, 10_000_000: 8}
WARM = 2  # requests of each size before the counted ones
SETTLE_SECONDS = 0.3  # records of a batch are written after its last answer: they count too
TARGET_MS = 60.0  # added to a body of 10 MB

COLUMNS = (
    Column("contender", "contender"),
    Column("size", "body, bytes", "{:,}"),
    Column("ms", "ms/request", "{:.2f}"),
    Column("added_ms", "added ms", "{:+.2f}"),
    Column("added_ms_min", "min", "{:+.2f}"),
    Column("added_ms_max", "max", "{:+.2f}"),
    Column("cpu_ms", "CPU ms/request", "{:.3f}"),
    Column("ratio", "CPU, ratio to nginx", "{:.2f}"),
    Column("slope", "log-log slope of CPU", "{:.2f}"),
    Column("target", "target"),
)


@dataclass(slots=True)
class _Measured:
    """One contender, one size, one round."""

    ms: float  # of a request, in the median
    cpu_ms: float | None  # of a request; None: no proxy


# By contender and size, one per round.
_Figures = dict[tuple[str, int], list[_Measured]]


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request failed."""
    figures: _Figures = {(c.name, size): [] for c in plan.contenders for size in SIZES}
    requests = {size: chat(0, size) for size in SIZES}
    sweep()
    with Fleet() as fleet, pinned(plan.cores.load):
        plan.say("growth: starting")
        start_json_upstream(fleet, plan)
        servers = {c.name: start_contender(fleet, c, plan) for c in plan.contenders}
        for contender in plan.contenders:
            _measure(contender, servers[contender.name], requests[1_000], 200)
        for number in range(plan.rounds):
            for size, count in SIZES.items():
                for contender in plan.order(number):
                    plan.say(f"growth: round {number + 1}/{plan.rounds}: {size} bytes: {contender.name}")
                    measured = _measure(contender, servers[contender.name], requests[size], count)
                    figures[contender.name, size].append(measured)
            fleet.check()
    sweep()
    rows = [_row(name, size, figures) for name, size in figures]
    return Outcome("growth", {"rounds": plan.rounds}, COLUMNS, rows, _slopes(rows))


def _measure(contender: Contender, server: Process | None, request: bytes, count: int) -> _Measured:
    with closing(Connection(contender.name, contender.port)) as connection:
        for _ in range(WARM):
            connection.ask(request)
        before = server.cpu_ns() if server else 0
        took = []
        for _ in range(count):
            begin = time.monotonic_ns()
            connection.ask(request)
            took.append((time.monotonic_ns() - begin) / 1e6)
    time.sleep(SETTLE_SECONDS)
    cpu_ms = (server.cpu_ns() - before) / 1e6 / count if server else None
    return _Measured(statistics.median(took), cpu_ms)


def _row(name: str, size: int, figures: _Figures) -> dict[str, object]:
    measured = figures[name, size]
    row: dict[str, object] = {"contender": name, "size": size, "ms": statistics.median(each.ms for each in measured)}
    if (direct := figures.get(("direct", size))) and name != "direct":
        added = [mine.ms - base.ms for mine, base in zip(measured, direct, strict=True)]
        row |= median_and_range("added_ms", added)
        if name == OURS and size == max(SIZES):
            row["target"] = verdict("added ms", statistics.median(added), TARGET_MS)
    cpu = _cpu(measured)
    if cpu:
        row["cpu_ms"] = statistics.median(cpu)
        if base := _cpu(figures.get((YARDSTICK, size), [])):
            row["ratio"] = statistics.median(mine / theirs for mine, theirs in zip(cpu, base, strict=True))
        smaller = [each for each in SIZES if each < size]
        if smaller:
            before = statistics.median(_cpu(figures[name, smaller[-1]]))
            row["slope"] = slope([(smaller[-1], before), (size, statistics.median(cpu))])
    row["rounds"] = [{"ms": round(each.ms, 3), "cpu_ms": each.cpu_ms} for each in measured]
    return row


def _cpu(measured: list[_Measured]) -> list[float]:
    return [each.cpu_ms for each in measured if each.cpu_ms is not None]


def slope(points: list[tuple[float, float]]) -> float:
    """The exponent of a power law through points above 0: 1 where cost grows with size, 2 with its square."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    return statistics.linear_regression([x for x, _ in logs], [y for _, y in logs]).slope


def _slopes(rows: list[dict[str, object]]) -> list[str]:
    """The slope over all sizes, by contender."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if isinstance(cpu := row.get("cpu_ms"), float) and isinstance(size := row["size"], int) and cpu > 0:
            points.setdefault(str(row["contender"]), []).append((size, cpu))
    return [f"{name}: log-log slope of CPU over all sizes {slope(each):.2f}" for name, each in points.items()]

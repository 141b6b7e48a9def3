"""JSON throughput: 1.5 kB requests on 32 connections, as a ratio to nginx in the same round."""

import statistics
import time

from bench.contenders import YARDSTICK, Contender
from bench.fleet import Fleet, Process
from bench.lineup import start_contender, start_fixed_upstream
from bench.plan import Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range
from bench.wrk_load import CONNECTIONS, Load, load, probe

COLUMNS = (
    Column("contender", "contender"),
    Column("rps", "requests/s", "{:,.0f}"),
    Column("ratio", "ratio to nginx", "{:.3f}"),
    Column("ratio_min", "min", "{:.3f}"),
    Column("ratio_max", "max", "{:.3f}"),
    Column("p50_ms", "p50 ms", "{:.2f}"),
    Column("p99_ms", "p99 ms", "{:.2f}"),
    Column("cpu_us", "CPU µs/request", "{:.1f}"),
    Column("busy", "core busy", "{:.0%}"),
    Column("requests", "requests", "{:,}"),
    Column("errors", "errors"),
)


class _Round:
    """One contender's share of one round."""

    def __init__(self, seen: Load, cpu_ns: int | None, ratio: float = 0.0) -> None:
        self.seen = seen
        self.cpu_ns = cpu_ns
        self.ratio = ratio

    def row(self) -> dict[str, object]:
        return {"rps": round(self.seen.rps, 1), "ratio": round(self.ratio, 4), "p99_ms": self.seen.p99_ms}


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request of any round failed."""
    rounds: dict[str, list[_Round]] = {contender.name: [] for contender in plan.contenders}
    with Fleet() as fleet:
        plan.say("json: starting")
        start_fixed_upstream(fleet, plan.cores.load)
        servers = {c.name: start_contender(fleet, c, plan) for c in plan.contenders}
        for contender in plan.contenders:
            plan.say(f"json: warming up {contender.name}")
            probe(contender.name, contender.port)
            load(fleet, contender.name, contender.port, seconds=1, core=plan.cores.load)
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"json: round {number + 1}/{plan.rounds}: {contender.name}")
                measured = _measure(fleet, plan, contender, servers[contender.name])
                rounds[contender.name].append(measured)
            fleet.check()
            nginx = rounds[YARDSTICK][-1].seen.rps
            for measured in (each[-1] for each in rounds.values()):
                measured.ratio = measured.seen.rps / nginx
    settings = {"rounds": plan.rounds, "seconds": plan.seconds, "connections": CONNECTIONS}
    return Outcome("json", settings, COLUMNS, [_row(name, each) for name, each in rounds.items()])


def _measure(fleet: Fleet, plan: Plan, contender: Contender, server: Process | None) -> _Round:
    before = server.cpu_ns() if server else 0
    seen = load(fleet, contender.name, contender.port, seconds=plan.seconds, core=plan.cores.load)
    time.sleep(0.2)  # what the load left behind, so that it does not fall into the next contender's time
    return _Round(seen, server.cpu_ns() - before if server else None)


def _row(name: str, rounds: list[_Round]) -> dict[str, object]:
    row: dict[str, object] = {
        "contender": name,
        "rps": statistics.median(each.seen.rps for each in rounds),
        **median_and_range("ratio", [each.ratio for each in rounds]),
        "p50_ms": statistics.median(each.seen.p50_ms for each in rounds),
        "p99_ms": statistics.median(each.seen.p99_ms for each in rounds),
        "requests": sum(each.seen.requests for each in rounds),
        "errors": 0,  # one error and there is no row
        "rounds": [each.row() for each in rounds],
    }
    cpu = [(each.cpu_ns, each.seen) for each in rounds if each.cpu_ns is not None]
    if cpu:
        row["cpu_us"] = statistics.median(ns / 1e3 / seen.requests for ns, seen in cpu)
        row["busy"] = statistics.median(ns / 1e9 / seen.seconds for ns, seen in cpu)
    return row

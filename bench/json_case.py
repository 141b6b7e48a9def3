"""JSON throughput: 1.5 kB requests on 32 connections, as a ratio to a yardstick in the same round."""

import statistics
import time

from bench.contenders import YARDSTICK, Contender
from bench.fleet import Fleet, Process
from bench.lineup import start_contenders, start_fixed_upstream
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


# What a load leaves behind may take so long, seconds, before the next contender is measured.
CATCH_UP = 20.0


class Round:
    """One contender's share of one round."""

    def __init__(self, seen: Load, cpu_ns: int | None) -> None:
        self.seen = seen
        self.cpu_ns = cpu_ns
        self.ratio = 0.0  # of requests per second, to the yardstick
        self.p99_ratio = 0.0

    @property
    def cpu_us(self) -> float:
        """CPU time of a request."""
        assert self.cpu_ns is not None
        return self.cpu_ns / 1e3 / self.seen.requests

    def row(self) -> dict[str, object]:
        return {"rps": round(self.seen.rps, 1), "ratio": round(self.ratio, 4), "p99_ms": self.seen.p99_ms}


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request of any round failed."""
    rounds = interleaved(plan, "json", YARDSTICK)
    return Outcome("json", settings(plan), COLUMNS, [row(name, each) for name, each in rounds.items()])


def settings(plan: Plan) -> dict[str, int]:
    """What decides the figures."""
    return {"rounds": plan.rounds, "seconds": plan.seconds, "connections": CONNECTIONS}


def interleaved(plan: Plan, case: str, yardstick: str) -> dict[str, list[Round]]:
    """All contenders up, measured one after the other in each round; raises BenchError."""
    rounds: dict[str, list[Round]] = {contender.name: [] for contender in plan.contenders}
    with Fleet() as fleet:
        plan.say(f"{case}: starting")
        start_fixed_upstream(fleet, plan.cores.load)
        servers = start_contenders(fleet, plan, case)
        for contender in plan.standing:
            plan.say(f"{case}: warming up {contender.name}")
            with plan.at_its_own_risk(contender):
                probe(contender.name, contender.port, contender.headers)
                _load(fleet, plan, contender, seconds=1)
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"{case}: round {number + 1}/{plan.rounds}: {contender.name}")
                with plan.at_its_own_risk(contender):
                    measured = _measure(fleet, plan, contender, servers[contender.name])
                    rounds[contender.name].append(measured)
            fleet.check(but=plan.rivals)
            base = rounds[yardstick][-1].seen
            for measured in (rounds[contender.name][-1] for contender in plan.standing):
                measured.ratio = measured.seen.rps / base.rps
                measured.p99_ratio = measured.seen.p99_ms / base.p99_ms
    return {contender.name: rounds[contender.name] for contender in plan.standing}


def _measure(fleet: Fleet, plan: Plan, contender: Contender, server: Process | None) -> Round:
    if server:
        server.check_alive()
    before = server.cpu_ns() if server else 0
    seen = _load(fleet, plan, contender, seconds=plan.seconds)
    _catch_up(server)
    return Round(seen, server.cpu_ns() - before if server else None)


def _load(fleet: Fleet, plan: Plan, contender: Contender, *, seconds: int) -> Load:
    core, extra = plan.cores.load, contender.headers
    return load(fleet, contender.name, contender.port, seconds=seconds, core=core, extra=extra)


def _catch_up(server: Process | None) -> None:
    """Let what the load left behind be done in its own contender's time, not in the next one's."""
    time.sleep(0.2)
    deadline = time.monotonic() + CATCH_UP
    while server is not None and time.monotonic() < deadline:
        before = server.cpu_ns()
        time.sleep(0.1)
        if server.cpu_ns() - before < 10_000_000:
            return


def row(name: str, rounds: list[Round]) -> dict[str, object]:
    """One contender's medians."""
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
    if rounds[0].cpu_ns is not None:
        row["cpu_us"] = statistics.median(each.cpu_us for each in rounds)
        row["busy"] = statistics.median(each.cpu_us * each.seen.rps / 1e6 for each in rounds)
    return row

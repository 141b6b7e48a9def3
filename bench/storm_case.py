"""Requests that come again at once, refused or not: what is left for those that are served when the processor is short.

wrk keeps every connection busy and heeds no `Retry-After`.  The proxy has room for `ROOM` requests; in each round
it meets as many connections, then 2, 5 and 10 times as many.
"""

import statistics
import time

from bench.contenders import ours
from bench.fleet import Fleet
from bench.lineup import start_contenders, start_fixed_upstream
from bench.plan import BenchError, Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range
from bench.wrk_load import Load, load, probe

ROOM = 64
FACTORS = (1, 2, 5, 10)
# Of what is served where all have room, so much must be served to any crowd.
ENOUGH = 0.8
# Seconds until the proxy has noticed that the clients of a load have left: it does not read from those that wait.
FORGOTTEN = 5.0

CONTENDERS = (ours("storm", 9238, 9258, {"limits": {"max_in_flight": ROOM, "agent_share": 100}}),)
YARDSTICK = "storm"

COLUMNS = (
    Column("factor", "connections, of room", "{}×"),
    Column("served", "served/s", "{:,.0f}"),
    Column("ratio", "of 1×", "{:.2f}"),
    Column("ratio_min", "min", "{:.2f}"),
    Column("ratio_max", "max", "{:.2f}"),
    Column("refused", "refused/s", "{:,.0f}"),
    Column("p50_ms", "p50 ms, both", "{:.1f}"),
    Column("p99_ms", "p99 ms, both", "{:.0f}"),
)


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError where less than `ENOUGH` is served, or an answer is neither."""
    (contender,) = plan.contenders
    rounds: dict[int, list[Load]] = {factor: [] for factor in FACTORS}
    with Fleet() as fleet:
        start_fixed_upstream(fleet, plan.cores.load)
        start_contenders(fleet, plan, "storm")
        probe(contender.name, contender.port)
        for number in range(-1, plan.rounds):  # the first one warms up
            for factor in FACTORS:
                plan.say(f"storm: round {number + 1}/{plan.rounds}, {factor} times as many connections")
                seen = load(
                    fleet, contender.name, contender.port, seconds=plan.seconds, core=plan.cores.load,
                    connections=factor * ROOM, refusals=True,
                )  # fmt: skip
                time.sleep(FORGOTTEN)
                if number >= 0:
                    rounds[factor].append(seen)
            fleet.check()
    rows = [_row(factor, each, rounds[1]) for factor, each in rounds.items()]
    for row in rows:
        if float(str(row["ratio"])) < ENOUGH:
            raise BenchError(f"{row['factor']} times as many connections leave {row['ratio']:.2f} of what is served")
    return Outcome("storm", {"rounds": plan.rounds, "seconds": plan.seconds, "max_in_flight": ROOM}, COLUMNS, rows)


def _row(factor: int, rounds: list[Load], base: list[Load]) -> dict[str, object]:
    return {
        "factor": factor,
        "served": statistics.median(each.rps for each in rounds),
        **median_and_range("ratio", [mine.rps / other.rps for mine, other in zip(rounds, base, strict=True)]),
        "refused": statistics.median(each.refused / each.seconds for each in rounds),
        "p50_ms": statistics.median(each.p50_ms for each in rounds),
        "p99_ms": statistics.median(each.p99_ms for each in rounds),
    }

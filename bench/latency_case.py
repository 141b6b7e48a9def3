"""Latency that a proxy adds at a modest fixed rate, where nothing queues: from the moment a request is due."""

import statistics
from dataclasses import asdict, dataclass

from bench.chat import USERS, chat, open_loop, pinned
from bench.contenders import Contender
from bench.everything import OURS, sweep, verdict
from bench.fleet import Fleet
from bench.lineup import start_contender, start_fixed_upstream
from bench.plan import Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range, percentile

RATE = 200  # requests a second
TARGET_US = 250.0  # added, in the median

COLUMNS = (
    Column("contender", "contender"),
    Column("p50_us", "p50 µs", "{:,.0f}"),
    Column("p99_us", "p99 µs", "{:,.0f}"),
    Column("added_p50_us", "added p50 µs", "{:+,.0f}"),
    Column("added_p50_us_min", "min", "{:+,.0f}"),
    Column("added_p50_us_max", "max", "{:+,.0f}"),
    Column("added_p99_us", "added p99 µs", "{:+,.0f}"),
    Column("late_p99_us", "client late p99 µs", "{:,.0f}"),
    Column("requests", "requests", "{:,}"),
    Column("target", "target"),
)


@dataclass(slots=True)
class _Round:
    """One contender's share of one round."""

    requests: int
    p50_us: float
    p99_us: float
    max_us: float
    late_p99_us: float  # how late the client was itself: contained in the others
    added_p50_us: float = 0.0
    added_p99_us: float = 0.0


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request failed."""
    rounds: dict[str, list[_Round]] = {contender.name: [] for contender in plan.contenders}
    sweep()
    with Fleet() as fleet, pinned(plan.cores.load):
        plan.say("latency: starting")
        start_fixed_upstream(fleet, plan.cores.load)
        for contender in plan.contenders:
            start_contender(fleet, contender, plan)
            _measure(contender, seconds=1)
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"latency: round {number + 1}/{plan.rounds}: {contender.name}")
                rounds[contender.name].append(_measure(contender, plan.seconds))
            fleet.check()
            if direct := rounds.get("direct"):
                for measured in (each[-1] for each in rounds.values()):
                    measured.added_p50_us = measured.p50_us - direct[-1].p50_us
                    measured.added_p99_us = measured.p99_us - direct[-1].p99_us
    sweep()
    settings = {"rounds": plan.rounds, "seconds": plan.seconds, "rate": RATE}
    return Outcome(
        "latency", settings, COLUMNS, [_row(name, each, "direct" in rounds) for name, each in rounds.items()]
    )


def _measure(contender: Contender, seconds: int) -> _Round:
    requests = [chat(user) for user in range(USERS)]
    answered = open_loop(contender.name, contender.port, requests=requests, rate=RATE, seconds=seconds)
    latencies = [each.latency / 1e3 for each in answered]
    late = percentile([each.late / 1e3 for each in answered], 0.99)
    return _Round(len(answered), percentile(latencies, 0.5), percentile(latencies, 0.99), max(latencies), late)


def _row(name: str, rounds: list[_Round], paired: bool) -> dict[str, object]:
    row: dict[str, object] = {"contender": name, "requests": sum(each.requests for each in rounds)}
    for key in ("p50_us", "p99_us", "late_p99_us"):
        row[key] = statistics.median(getattr(each, key) for each in rounds)
    if paired and name != "direct":
        added = statistics.median(each.added_p50_us for each in rounds)
        row |= median_and_range("added_p50_us", [each.added_p50_us for each in rounds])
        row["added_p99_us"] = statistics.median(each.added_p99_us for each in rounds)
        if name == OURS:
            row["target"] = verdict("added p50", added, TARGET_US)
    row["rounds"] = [asdict(each) for each in rounds]
    return row

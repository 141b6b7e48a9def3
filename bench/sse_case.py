"""Streaming: CPU time of the proxy per relayed chunk, the delay it adds to each, and to the first.

What is added is the difference to no proxy at all in the same round, of the same percentile.
"""

import json
import statistics
import time
from dataclasses import asdict, dataclass

from bench.contenders import YARDSTICK, Contender
from bench.fleet import Fleet, Process
from bench.lineup import start_contenders, start_stream_upstream
from bench.plan import Plan, own_program
from bench.report import Column, Outcome
from bench.spread import median_and_range
from bench.sse_client import SLACK_SECONDS

SETTLE_SECONDS = 0.5  # records and metrics of a round are written after its last byte: they count too
CROWDED = 0.85  # of the load's core: above it, delays are the harness's own

COLUMNS = (
    Column("contender", "contender"),
    Column("cpu_us", "CPU µs/chunk", "{:.1f}"),
    Column("cpu_us_min", "min", "{:.1f}"),
    Column("cpu_us_max", "max", "{:.1f}"),
    Column("ratio", "ratio to nginx", "{:.2f}"),
    Column("ratio_min", "min", "{:.2f}"),
    Column("ratio_max", "max", "{:.2f}"),
    Column("delay_p50_us", "delay p50 µs", "{:,.0f}"),
    Column("delay_p99_us", "p99 µs", "{:,.0f}"),
    Column("added_p50_us", "added p50 µs", "{:+,.0f}"),
    Column("added_p99_us", "p99 µs", "{:+,.0f}"),
    Column("added_first_p50_us", "to first chunk p50 µs", "{:+,.0f}"),
    Column("added_first_p99_us", "p99 µs", "{:+,.0f}"),
    Column("load_busy", "load core busy", "{:.0%}"),
    Column("streams", "streams", "{:,}"),
    Column("chunks", "chunks", "{:,}"),
)
# What is added, in microseconds: of what it is a difference, and that one's unit in microseconds.
ADDED = {
    "added_p50_us": ("delay_p50_us", 1),
    "added_p99_us": ("delay_p99_us", 1),
    "added_first_p50_us": ("first_p50_ms", 1000),
    "added_first_p99_us": ("first_p99_ms", 1000),
}
NO_PROXY = "direct"


@dataclass(slots=True)
class _Round:
    """One contender's share of one round."""

    chunks: int
    cpu_us: float | None  # per chunk; None: no proxy
    delay_p50_us: float
    delay_p99_us: float
    first_p50_ms: float
    first_p99_ms: float
    load_busy: float
    ratio: float | None = None
    added_p50_us: float | None = None
    added_p99_us: float | None = None
    added_first_p50_us: float | None = None
    added_first_p99_us: float | None = None


def run(plan: Plan, case: str = "sse") -> Outcome:
    """Measure; raises BenchError when any stream of any round was not complete."""
    rounds: dict[str, list[_Round]] = {contender.name: [] for contender in plan.contenders}
    with Fleet() as fleet:
        plan.say(f"{case}: starting")
        upstream = start_stream_upstream(fleet, plan, hold=False)
        servers = start_contenders(fleet, plan, case, streams=plan.streams)
        for contender in plan.standing:
            plan.say(f"{case}: warming up {contender.name}")
            with plan.at_its_own_risk(contender):
                _client(fleet, plan, contender, streams=min(10, plan.streams))
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"{case}: round {number + 1}/{plan.rounds}: {contender.name}")
                with plan.at_its_own_risk(contender):
                    measured = _measure(fleet, plan, contender, servers[contender.name], upstream)
                    rounds[contender.name].append(measured)
            fleet.check(but=plan.rivals)
            _compare({contender.name: rounds[contender.name][-1] for contender in plan.standing})
    settings = {
        "rounds": plan.rounds,
        "streams": plan.streams,
        "chunks": plan.chunks,
        "interval_ms": plan.interval_ms,
    }
    measured_ones = {contender.name: rounds[contender.name] for contender in plan.standing}
    rows = [
        _row(contender.name, rounds[contender.name]) | {"streams": _streams(plan, contender)}
        for contender in plan.standing
    ]
    return Outcome(case, settings, COLUMNS, rows, _notes(measured_ones))


def asked_with(contender: Contender) -> list[str]:
    """The client's options for the headers that this contender wants."""
    return [word for header in contender.headers.items() for word in ("--header", ": ".join(header))]


def _streams(plan: Plan, contender: Contender) -> int:
    return contender.streams(plan.streams, plan.interval_ms)


def _compare(seen: dict[str, _Round]) -> None:
    """Relate one round's shares to the yardstick's and to no proxy's."""
    nginx = seen[YARDSTICK].cpu_us
    direct = seen.get(NO_PROXY)
    for name, measured in seen.items():
        if nginx is not None and measured.cpu_us is not None:
            measured.ratio = measured.cpu_us / nginx
        if direct is not None and name != NO_PROXY:
            for added, (key, micro) in ADDED.items():
                setattr(measured, added, micro * (getattr(measured, key) - getattr(direct, key)))


def _client(fleet: Fleet, plan: Plan, contender: Contender, *, streams: int) -> dict[str, float]:
    argv = [*own_program("sse_client"), "--port", str(contender.sse_port)]
    argv += ["--streams", str(streams), "--chunks", str(plan.chunks), "--interval-ms", str(plan.interval_ms)]
    argv += asked_with(contender)
    longest = plan.chunks * plan.interval_ms / 1000 + 2 * SLACK_SECONDS + streams / 100
    output = fleet.run(f"sse-client-{contender.name}", argv, core=plan.cores.load, timeout=longest)
    result: dict[str, float] = json.loads(output)
    return result


def _measure(fleet: Fleet, plan: Plan, contender: Contender, server: Process | None, upstream: Process) -> _Round:
    if server:
        server.check_alive()
    before = server.cpu_ns() if server else 0
    upstream_before = upstream.cpu_ns()
    seen = _client(fleet, plan, contender, streams=_streams(plan, contender))
    time.sleep(SETTLE_SECONDS)
    cpu_ns = server.cpu_ns() - before if server else None
    chunks = int(seen["chunks"])
    load_cpu = seen["cpu_seconds"] + (upstream.cpu_ns() - upstream_before) / 1e9
    return _Round(
        chunks=chunks,
        cpu_us=None if cpu_ns is None else cpu_ns / 1e3 / chunks,
        delay_p50_us=seen["delay_p50_us"],
        delay_p99_us=seen["delay_p99_us"],
        first_p50_ms=seen["first_p50_ms"],
        first_p99_ms=seen["first_p99_ms"],
        load_busy=load_cpu / seen["seconds"],
    )


def _row(name: str, rounds: list[_Round]) -> dict[str, object]:
    row: dict[str, object] = {"contender": name, "chunks": sum(each.chunks for each in rounds)}
    for key in ("delay_p50_us", "delay_p99_us", "first_p50_ms", "first_p99_ms", "load_busy"):
        row[key] = statistics.median(getattr(each, key) for each in rounds)
    if cpu := [each.cpu_us for each in rounds if each.cpu_us is not None]:
        row |= median_and_range("cpu_us", cpu)
    if ratios := [each.ratio for each in rounds if each.ratio is not None]:
        row |= median_and_range("ratio", ratios)
    for key in ADDED:
        if added := [getattr(each, key) for each in rounds if getattr(each, key) is not None]:
            row[key] = statistics.median(added)
    row["rounds"] = [asdict(each) for each in rounds]
    return row


def _notes(rounds: dict[str, list[_Round]]) -> list[str]:
    busy = {name: statistics.median(each.load_busy for each in measured) for name, measured in rounds.items()}
    crowded = [f"{name} ({share:.0%})" for name, share in busy.items() if share >= CROWDED]
    if not crowded:
        return []
    full = f"the load's core was nearly full with {', '.join(crowded)}: delays are the harness's own there, and chunks"
    return [f"{full} came in groups; use fewer --streams or a longer --interval-ms"]

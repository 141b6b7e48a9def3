"""Streaming: CPU time of the proxy per relayed chunk, and the delay it adds to each."""

import json
import statistics
import time
from dataclasses import asdict, dataclass

from bench.contenders import YARDSTICK, Contender
from bench.fleet import Fleet, Process
from bench.lineup import start_contender, start_stream_upstream
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
    Column("delay_p99_us", "delay p99 µs", "{:,.0f}"),
    Column("first_p50_ms", "first chunk p50 ms", "{:.1f}"),
    Column("first_p99_ms", "p99 ms", "{:.1f}"),
    Column("load_busy", "load core busy", "{:.0%}"),
    Column("chunks", "chunks", "{:,}"),
)


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


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any stream of any round was not complete."""
    rounds: dict[str, list[_Round]] = {contender.name: [] for contender in plan.contenders}
    with Fleet() as fleet:
        plan.say("sse: starting")
        upstream = start_stream_upstream(fleet, plan, hold=False)
        servers = {c.name: start_contender(fleet, c, plan, streams=plan.streams) for c in plan.contenders}
        for contender in plan.contenders:
            plan.say(f"sse: warming up {contender.name}")
            _client(fleet, plan, contender, streams=min(10, plan.streams))
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"sse: round {number + 1}/{plan.rounds}: {contender.name}")
                measured = _measure(fleet, plan, contender, servers[contender.name], upstream)
                rounds[contender.name].append(measured)
            fleet.check()
            nginx = rounds[YARDSTICK][-1].cpu_us
            for measured in (each[-1] for each in rounds.values()):
                if nginx is not None and measured.cpu_us is not None:
                    measured.ratio = measured.cpu_us / nginx
    settings = {
        "rounds": plan.rounds,
        "streams": plan.streams,
        "chunks": plan.chunks,
        "interval_ms": plan.interval_ms,
    }
    rows = [_row(name, each) for name, each in rounds.items()]
    return Outcome("sse", settings, COLUMNS, rows, _notes(rounds))


def _client(fleet: Fleet, plan: Plan, contender: Contender, *, streams: int) -> dict[str, float]:
    argv = [*own_program("sse_client"), "--port", str(contender.sse_port)]
    argv += ["--streams", str(streams), "--chunks", str(plan.chunks), "--interval-ms", str(plan.interval_ms)]
    longest = plan.chunks * plan.interval_ms / 1000 + 2 * SLACK_SECONDS + streams / 100
    output = fleet.run(f"sse-client-{contender.name}", argv, core=plan.cores.load, timeout=longest)
    result: dict[str, float] = json.loads(output)
    return result


def _measure(fleet: Fleet, plan: Plan, contender: Contender, server: Process | None, upstream: Process) -> _Round:
    before = server.cpu_ns() if server else 0
    upstream_before = upstream.cpu_ns()
    seen = _client(fleet, plan, contender, streams=plan.streams)
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
    row["rounds"] = [asdict(each) for each in rounds]
    return row


def _notes(rounds: dict[str, list[_Round]]) -> list[str]:
    if max(each.load_busy for measured in rounds.values() for each in measured) < CROWDED:
        return []
    full = "the load's core was nearly full: delays are the harness's own, and chunks came in groups"
    return [f"{full}; use fewer --streams or a longer --interval-ms"]

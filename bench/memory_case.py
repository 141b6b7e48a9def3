"""Memory: VmRSS of the proxy after start, and per stream with many idle ones open."""

import time

from bench.contenders import Contender
from bench.fleet import Fleet, Process, has_written
from bench.lineup import start_contender, start_stream_upstream
from bench.plan import Plan, own_program
from bench.report import Column, Outcome
from bench.sse_case import asked_with
from bench.sse_client import OPEN

WARM_STREAMS = 20  # what the first requests load for good is no stream's memory
SETTLE_SECONDS = 1.0
HOLD_SECONDS = 120.0  # until all streams are open

COLUMNS = (
    Column("contender", "contender"),
    Column("idle_mib", "idle MiB", "{:.1f}"),
    Column("warm_mib", "after first requests MiB", "{:.1f}"),
    Column("open_mib", "streams open MiB", "{:.1f}"),
    Column("closed_mib", "closed again MiB", "{:.1f}"),
    Column("stream_kib", "KiB/stream", "{:.1f}"),
    Column("streams", "streams", "{:,}"),
)


def run(plan: Plan) -> Outcome:
    """Measure each contender that has a process; fresh ones, one after the other."""
    proxies = [contender for contender in plan.standing if contender.argv]
    with Fleet() as fleet:
        upstream = start_stream_upstream(fleet, plan, hold=True)
        rows = []
        for contender in proxies:
            with plan.at_its_own_risk(contender):
                rows.append(_measure(fleet, plan, contender))
            fleet.stop_all(but=upstream)  # what a rival has left when it failed
    return Outcome("memory", {"streams": plan.streams}, COLUMNS, rows)


def _measure(fleet: Fleet, plan: Plan, contender: Contender) -> dict[str, object]:
    plan.say(f"memory: starting {contender.name}")
    streams = contender.streams(plan.streams, interval_ms=1000)  # it opens no more of them in a second, either
    server = start_contender(fleet, contender, plan, streams=streams)
    assert server is not None
    time.sleep(SETTLE_SECONDS)
    idle = server.rss_kib()
    _hold(fleet, plan, contender, WARM_STREAMS, server)
    time.sleep(SETTLE_SECONDS)
    warm = server.rss_kib()
    plan.say(f"memory: {streams} streams through {contender.name}")
    opened = _hold(fleet, plan, contender, streams, server)
    time.sleep(SETTLE_SECONDS)
    closed = server.rss_kib()
    fleet.check()
    return {
        "contender": contender.name,
        "idle_mib": idle / 1024,
        "warm_mib": warm / 1024,
        "open_mib": opened / 1024,
        "closed_mib": closed / 1024,
        "stream_kib": (opened - warm) / streams,
        "streams": streams,
    }


def _hold(fleet: Fleet, plan: Plan, contender: Contender, streams: int, server: Process) -> int:
    """The server's memory, in KiB, while `streams` streams are open and idle."""
    argv = [*own_program("sse_client"), "--hold", "--streams", str(streams)]
    argv += ["--port", str(contender.sse_port), *asked_with(contender)]
    argv += ["--per-second", str(contender.opens_per_second)]
    name, ready = f"sse-client-{contender.name}", has_written(OPEN)
    client = fleet.start(name, argv, core=plan.cores.load, ready=ready, within=HOLD_SECONDS)
    time.sleep(SETTLE_SECONDS)
    rss = server.rss_kib()
    client.check_alive()  # it leaves as soon as one stream ends: all were open until here
    fleet.stop(client)
    return rss

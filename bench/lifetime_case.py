"""A process's life: how soon it serves, what it holds idle, and whether that grows over a million requests.

The writer of the ledger is a process of its own; its memory is told apart, and `together` counts pages that both
share once (PSS), as a container's limit does.  Under full load the writer, which runs when nobody else wants to,
gets next to nothing of the core: the ledger's queue fills to its bound.  What the queue has held at its fullest is
no growth, and is told apart too.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.chat import pinned
from bench.contenders import Contender
from bench.everything import OURS, metric, settle, sweep, verdict
from bench.fleet import Fleet, Process
from bench.lineup import start_contender, start_fixed_upstream
from bench.plan import Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range
from bench.wrk_load import CONNECTIONS, load, probe

SETTLE_SECONDS = 2.0
ENOUGH = 1_000_000  # requests
PIECES = 20  # of the load, each followed by a look at the memory
WARM = 0.2  # of the pieces: what first requests load for good is no growth
TARGET_START = 0.7  # seconds
TARGET_IDLE = 70.0  # MB
TARGET_GROWTH = 2.0  # MB per million requests: two bytes of each would show

COLUMNS = (
    Column("contender", "contender"),
    Column("start_s", "start s", "{:.2f}"),
    Column("start_s_min", "min", "{:.2f}"),
    Column("start_s_max", "max", "{:.2f}"),
    Column("start_cpu_s", "its CPU s", "{:.2f}"),
    Column("idle_mb", "idle MB", "{:.1f}"),
    Column("idle_writer_mb", "its writer MB", "{:.1f}"),
    Column("idle_pss_mb", "together MB", "{:.1f}"),
    Column("after_mb", "after load MB", "{:.1f}"),
    Column("after_writer_mb", "its writer MB", "{:.1f}"),
    Column("requests", "requests", "{:,}"),
    Column("queue_mb", "queue held MB", "{:.1f}"),
    Column("growth_mb", "growth besides, MB/million", "{:+.2f}"),
    Column("growth_writer_mb", "its writer", "{:+.2f}"),
    Column("target", "target"),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a server's processes hold, in MB (10^6 bytes)."""

    own: float  # RSS of the process that serves
    others: float  # … of those it has started
    together: float  # PSS of all
    queue: float = 0.0  # of `own`: records that wait, at their most so far

    @classmethod
    def of(cls, server: Process, queue: float = 0.0) -> "Memory":
        """Read from the kernel."""
        own, *others = server.pids()
        together = sum(_mb(pid, "Pss") for pid in (own, *others))
        return cls(_mb(own, "Rss"), sum(_mb(pid, "Rss") for pid in others), together, queue)


def _mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def run(plan: Plan) -> Outcome:
    """Measure each contender that has a process; fresh ones, one after the other."""
    proxies = [contender for contender in plan.contenders if contender.argv]
    starts: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in proxies}
    with Fleet() as fleet, pinned(plan.cores.load):
        start_fixed_upstream(fleet, plan.cores.load)
        for number in range(plan.rounds):
            for contender in proxies:
                plan.say(f"lifetime: start {number + 1}/{plan.rounds}: {contender.name}")
                sweep()
                fleet.stop(_started(fleet, contender, plan, starts[contender.name]))
        rows = [_lived(fleet, contender, plan, starts[contender.name]) for contender in proxies]
    sweep()
    settings = {"starts": plan.rounds, "seconds": plan.seconds, "connections": CONNECTIONS}
    return Outcome("lifetime", settings, COLUMNS, rows)


def _started(fleet: Fleet, contender: Contender, plan: Plan, starts: list[tuple[float, float]]) -> Process:
    """Start one, and note the seconds from exec to ready and its CPU seconds until then."""
    server = start_contender(fleet, contender, plan)
    assert server is not None
    starts.append((time.monotonic() - server.started, server.own_cpu_ns() / 1e9))
    return server


def _lived(fleet: Fleet, contender: Contender, plan: Plan, starts: list[tuple[float, float]]) -> dict[str, object]:
    sweep()
    server = _started(fleet, contender, plan, [])
    time.sleep(SETTLE_SECONDS)
    idle = Memory.of(server)
    plan.say(f"lifetime: {contender.name} under load")
    probe(contender.name, contender.port)
    seen, queue = [(0, idle)], 0.0
    ours = contender.name == OURS
    seconds = max(1, plan.seconds // PIECES)
    for _ in range(PIECES if ours else 1):
        piece = load(fleet, contender.name, contender.port, seconds=seconds, core=plan.cores.load)
        if ours:
            queue = max(queue, metric(contender, "splitlane_ledger_queued_bytes") / 1e6)
        seen.append((seen[-1][0] + piece.requests, Memory.of(server, queue)))
        if seen[-1][0] >= ENOUGH:
            break
    settle(server)
    time.sleep(SETTLE_SECONDS)
    after = Memory.of(server)
    fleet.check()
    fleet.stop(server)
    row: dict[str, object] = {
        "contender": contender.name,
        **median_and_range("start_s", [took for took, _ in starts]),
        "start_cpu_s": statistics.median(cpu for _, cpu in starts),
        "idle_mb": idle.own,
        "idle_pss_mb": idle.together,
        "after_mb": after.own,
        "requests": seen[-1][0],
        "rounds": [{"requests": requests, **asdict(memory)} for requests, memory in seen],
    }
    if ours:
        own, writer = growth(seen, lambda memory: memory.own - memory.queue), growth(seen, lambda memory: memory.others)
        row |= {"idle_writer_mb": idle.others, "after_writer_mb": after.others, "queue_mb": queue}
        row |= {"growth_mb": own, "growth_writer_mb": writer}
        enough = seen[-1][0] > ENOUGH / 2
        row["target"] = "; ".join(
            (
                verdict("start s", statistics.median(took for took, _ in starts), TARGET_START),
                verdict("idle MB together", idle.together, TARGET_IDLE),
                verdict("growth", own + writer, TARGET_GROWTH) if enough else "growth: too few requests",
            )
        )
    return row


def growth(seen: list[tuple[int, Memory]], part: Callable[[Memory], float]) -> float:
    """MB per million requests, by least squares over what was seen after the first `WARM` of it."""
    later = seen[max(1, int(WARM * len(seen))) :]
    if len(later) < 2:
        return 0.0
    millions = [requests / 1e6 for requests, _ in later]
    return statistics.linear_regression(millions, [part(memory) for _, memory in later]).slope

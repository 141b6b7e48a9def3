"""Two contenders under load at the same time, on one core: what a request takes of it, beside the yardstick's.

Whatever else the machine does meanwhile hits both alike, so this tells small differences apart where throughputs,
measured one after the other, drift by more.  It says nothing of latency, nor of throughput itself.  More than two at
once would be quicker to measure, and wrong: what a process does twenty times a second counts for more of a request
the fewer of them there are, so that nine of them, at a ninth of a core each, would tell nine times of it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.contenders import Contender
from bench.fleet import Fleet, Process
from bench.lineup import start_contender, start_fixed_upstream
from bench.plan import Plan
from bench.wrk_load import load

# A round is this many times as long as one that a contender has for itself.
LONGER = 4


def together(plan: Plan, case: str, yardstick: str) -> dict[str, list[float]]:
    """For each contender and round, the CPU time of the yardstick's request by that of its own; raises BenchError.

    That is the ratio of throughputs of two saturated cores.  Only the process itself is counted: what it leaves to
    others, such as the ledger's writer, is theirs to do when the core has time.  Each round has processes of its
    own: two of the same program differ by some per cent for as long as they live.
    """
    ratios: dict[str, list[float]] = {contender.name: [] for contender in plan.contenders}
    for number in range(plan.rounds):
        for contender in plan.order(number):
            if contender.name == yardstick:
                ratios[yardstick].append(1.0)
                continue
            plan.say(f"{case}: two at once, round {number + 1}/{plan.rounds}: {contender.name}")
            pair = [each for each in plan.order(number) if each.name in (contender.name, yardstick)]
            with Fleet() as fleet:
                start_fixed_upstream(fleet, plan.cores.load)
                servers = {each.name: start_contender(fleet, each, plan) for each in pair}
                _round(fleet, plan, servers, pair, seconds=1)  # they warm up
                took = _round(fleet, plan, servers, pair, seconds=plan.seconds * LONGER)
                fleet.check()
            ratios[contender.name].append(took[yardstick] / took[contender.name])
    return ratios


def _round(
    fleet: Fleet,
    plan: Plan,
    servers: dict[str, Process | None],
    contenders: Sequence[Contender],
    seconds: int,
) -> dict[str, float]:
    """CPU time of a request, nanoseconds, by contender."""

    def requests(contender: Contender) -> int:
        return load(fleet, contender.name, contender.port, seconds=seconds, core=plan.cores.load).requests

    before = {name: server.own_cpu_ns() for name, server in servers.items() if server}
    with ThreadPoolExecutor(len(contenders)) as threads:
        served = dict(zip((c.name for c in contenders), threads.map(requests, contenders), strict=True))
    return {name: (server.own_cpu_ns() - before[name]) / served[name] for name, server in servers.items() if server}

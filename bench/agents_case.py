"""Many agents: what 5, 500 and 5,000 of them cost a request, a process and a reload.

Requests are those of all agents in turn.  After the rounds each policy is changed and reloaded by SIGHUP under a
modest load: the answers themselves tell when the new policy is active, and what waited for it.
"""

import os
import signal
import statistics
import time
from dataclasses import asdict, dataclass

import yaml

from bench.chat import USERS, Answered, chat, open_loop, pinned
from bench.contenders import Contender, ours
from bench.everything import SECTIONS, settle, sweep
from bench.fleet import Fleet, Process
from bench.lifetime_case import Memory
from bench.lineup import policy_for, start_contender, start_fixed_upstream
from bench.plan import RUN, BenchError, Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range, percentile
from bench.wrk_load import CONNECTIONS, load

YARDSTICK = "agents-5"
RATE = 200  # requests a second while a policy is reloaded
RELOAD_SECONDS = 12  # of that load; the order comes in the middle
AFTER_SECONDS = 0.5  # what waits because of a reload may be answered so long after it

COLUMNS = (
    Column("contender", "policy"),
    Column("rps", "requests/s", "{:,.0f}"),
    Column("ratio", "ratio to 5", "{:.3f}"),
    Column("ratio_min", "min", "{:.3f}"),
    Column("ratio_max", "max", "{:.3f}"),
    Column("cpu_us", "CPU µs/request", "{:.1f}"),
    Column("p99_ms", "p99 ms", "{:.2f}"),
    Column("start_s", "start s", "{:.2f}"),
    Column("idle_mb", "idle MB", "{:.1f}"),
    Column("reload_s", "reload s", "{:.2f}"),
    Column("reload_worst_ms", "worst ms meanwhile", "{:.1f}"),
    Column("before_p99_ms", "p99 ms before", "{:.1f}"),
    Column("before_worst_ms", "worst", "{:.1f}"),
    Column("requests", "requests", "{:,}"),
)


def _agents(number: int) -> dict[str, object]:
    return {
        f"agent-{each}": {
            "fine_tuned": f"ft:open-mistral-7b:5010731d:{each:08x}",
            "fallback": "open-mistral-7b",
        }
        for each in range(number)
    }


def _contender(place: int, number: int) -> Contender:
    name = f"agents-{number}"
    store = {"url": f"sqlite:///{RUN / name}.db"}
    return ours(name, 9280 + place, 9290 + place, {**SECTIONS, "store": store, "agents": _agents(number)})


NUMBERS = {f"agents-{number}": number for number in (5, 500, 5000)}
CONTENDERS = tuple(_contender(*each) for each in enumerate(NUMBERS.values()))


@dataclass(slots=True)
class _Round:
    """One contender's share of one round."""

    requests: int
    rps: float
    p99_ms: float
    cpu_us: float
    ratio: float = 0.0


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request failed."""
    rounds: dict[str, list[_Round]] = {contender.name: [] for contender in plan.contenders}
    rows: dict[str, dict[str, object]] = {}
    sweep()
    with Fleet() as fleet:
        start_fixed_upstream(fleet, plan.cores.load)
        servers: dict[str, Process] = {}
        for contender in plan.contenders:
            plan.say(f"agents: starting {contender.name}")
            server = start_contender(fleet, contender, plan)
            assert server is not None
            start_s = time.monotonic() - server.started
            time.sleep(1)
            rows[contender.name] = {"contender": contender.name, "start_s": start_s, "idle_mb": Memory.of(server).own}
            servers[contender.name] = server
            _measure(fleet, plan, contender, server, seconds=1)
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"agents: round {number + 1}/{plan.rounds}: {contender.name}")
                measured = _measure(fleet, plan, contender, servers[contender.name], plan.seconds)
                rounds[contender.name].append(measured)
            fleet.check()
            for each in rounds.values():
                each[-1].ratio = each[-1].rps / rounds[YARDSTICK][-1].rps
        for contender in plan.contenders:
            plan.say(f"agents: reloading {contender.name}")
            rows[contender.name] |= _reload(plan, contender, servers[contender.name])
    sweep()
    settings = {"rounds": plan.rounds, "seconds": plan.seconds, "connections": CONNECTIONS, "reload_rate": RATE}
    return Outcome("agents", settings, COLUMNS, [row | _row(rounds[name]) for name, row in rows.items()])


def _measure(fleet: Fleet, plan: Plan, contender: Contender, server: Process, seconds: int) -> _Round:
    cpu_ns, agents = server.own_cpu_ns(), NUMBERS[contender.name]
    seen = load(fleet, contender.name, contender.port, seconds=seconds, core=plan.cores.load, agents=agents)
    cpu_ns = server.own_cpu_ns() - cpu_ns
    settle(server)
    return _Round(seen.requests, seen.rps, seen.p99_ms, cpu_ns / 1e3 / seen.requests)


def _row(rounds: list[_Round]) -> dict[str, object]:
    return {
        "requests": sum(each.requests for each in rounds),
        **{key: statistics.median(getattr(each, key) for each in rounds) for key in ("rps", "p99_ms", "cpu_us")},
        **median_and_range("ratio", [each.ratio for each in rounds]),
        "rounds": [asdict(each) for each in rounds],
    }


def _reload(plan: Plan, contender: Contender, server: Process) -> dict[str, object]:
    """Another percentage for everybody, under load; raises BenchError where the new policy does not come."""
    path = policy_for(contender, 0)
    changed = yaml.safe_load(path.read_text())
    changed["ab_testing"]["rollout_percentage"] = 11
    beside = RUN / f"{contender.name}.next"
    beside.write_text(yaml.safe_dump(changed, sort_keys=False))
    ordered = []

    def order() -> None:
        beside.replace(path)
        ordered.append(time.monotonic_ns())
        os.kill(server.popen.pid, signal.SIGHUP)

    agents = NUMBERS[contender.name]
    requests = [chat(user % USERS, agent=f"agent-{user % agents}") for user in range(max(USERS, agents))]
    with pinned(plan.cores.load):
        answered = open_loop(
            contender.name, contender.port, requests=requests, rate=RATE, seconds=RELOAD_SECONDS, halfway=order
        )
    return reloaded(contender.name, answered, ordered[0])


def reloaded(name: str, answered: list[Answered], ordered: int) -> dict[str, object]:
    """What the answers tell of a reload that was ordered at `ordered`, nanoseconds."""
    old = answered[0].policy
    ends = [each.due + each.latency for each in answered if each.policy != old]
    if not ends:
        raise BenchError(f"{name}: no answer was by the new policy")
    active = min(ends)
    before = [each.latency / 1e6 for each in answered if each.due + each.latency < ordered]
    until = active + AFTER_SECONDS * 1e9
    meanwhile = [each.latency / 1e6 for each in answered if each.due + each.latency >= ordered and each.due < until]
    return {
        "reload_s": (active - ordered) / 1e9,
        "reload_worst_ms": max(meanwhile),
        "before_p99_ms": percentile(before, 0.99),
        "before_worst_ms": max(before),
    }

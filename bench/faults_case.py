"""Faults: a tenth of the fine-tune's calls fails, and every user gets an answer; what that takes, beside no faults.

Everybody is fine-tuned here, so that a tenth of all requests is rescued.  Each kind of fault is a Splitlane of its
own, whose fine-tunes fail that way; the upstream, its answers and everything else are the same.
"""

import statistics
from dataclasses import asdict, dataclass

from bench.contenders import UPSTREAM, Contender, ours
from bench.everything import SECTIONS, metric, settle, sweep
from bench.fleet import Fleet, Process
from bench.lineup import POLICY, start_contender, start_json_upstream
from bench.plan import RUN, BenchError, Plan
from bench.report import Column, Outcome
from bench.spread import median_and_range
from bench.wrk_load import CONNECTIONS, load, probe

YARDSTICK = "no-fault"
SILENCE_MS = 100  # the time-out that ends a silence
KINDS = {YARDSTICK: "none", "500": "500", "reset": "reset", "silence": "silence"}

COLUMNS = (
    Column("contender", "fault"),
    Column("rps", "requests/s", "{:,.0f}"),
    Column("ratio", "ratio to none", "{:.3f}"),
    Column("ratio_min", "min", "{:.3f}"),
    Column("ratio_max", "max", "{:.3f}"),
    Column("p50_ms", "p50 ms", "{:.2f}"),
    Column("p99_ms", "p99 ms", "{:.2f}"),
    Column("cpu_us", "CPU µs/request", "{:.1f}"),
    Column("busy", "core busy", "{:.0%}"),
    Column("rescued", "rescued", "{:.1%}"),
    Column("rescue", "CPU of a rescued one, in plain ones", "{:.2f}"),
    Column("requests", "requests", "{:,}"),
    Column("failed", "not answered 200"),
)


def _contender(number: int, name: str, kind: str) -> Contender:
    agents = ("qa_agent", "content_agent", "legal_agent", "support_agent", "analyst_agent")
    sections = {
        **SECTIONS,
        "store": {"url": f"sqlite:///{RUN / f'faults-{name}.db'}"},
        "upstreams": {"bench": {"base_url": UPSTREAM.rstrip("/"), "timeouts": {"first_byte": f"{SILENCE_MS}ms"}}},
        "agents": {each: {"fine_tuned": f"fails-{kind}-{each}", "fallback": "open-mistral-7b"} for each in agents},
        "ab_testing": {"enabled": False},
        # What is measured is the rescue, so nothing may end the fine-tune: the brake would at once, at a tenth of
        # failures, and the breaker where time-outs come in bunches.
        "rollout": {"brake": {"enabled": False}},
        "fallback": {"breaker": {"failures": 1_000_000}},
    }
    return ours(name, 9260 + number, 9270 + number, sections)


CONTENDERS = tuple(_contender(number, *kind) for number, kind in enumerate(KINDS.items()))


@dataclass(slots=True)
class _Round:
    """One contender's share of one round."""

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    rescued: float  # share of the requests
    ratio: float = 0.0  # of requests per second, to no fault
    rescue: float | None = None  # CPU of a rescued request, in plain ones


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request was not answered 200."""
    rounds: dict[str, list[_Round]] = {contender.name: [] for contender in plan.contenders}
    sweep()
    with Fleet() as fleet:
        plan.say("faults: starting")
        start_json_upstream(fleet, plan)
        servers: dict[str, Process] = {}
        for contender in plan.contenders:
            server = start_contender(fleet, contender, plan)
            assert server is not None
            servers[contender.name] = server
            probe(contender.name, contender.port)
            load(fleet, contender.name, contender.port, seconds=1, core=plan.cores.load)
        for number in range(plan.rounds):
            for contender in plan.order(number):
                plan.say(f"faults: round {number + 1}/{plan.rounds}: {contender.name}")
                rounds[contender.name].append(_measure(fleet, plan, contender, servers[contender.name]))
            fleet.check()
            _compare([each[-1] for each in rounds.values()], rounds[YARDSTICK][-1])
    sweep()
    settings = {"rounds": plan.rounds, "seconds": plan.seconds, "connections": CONNECTIONS, "silence_ms": SILENCE_MS}
    return Outcome("faults", settings, COLUMNS, [_row(name, each) for name, each in rounds.items()])


def _measure(fleet: Fleet, plan: Plan, contender: Contender, server: Process) -> _Round:
    rescued, cpu_ns = _rescued(contender), server.own_cpu_ns()
    seen = load(fleet, contender.name, contender.port, seconds=plan.seconds, core=plan.cores.load)
    cpu_ns = server.own_cpu_ns() - cpu_ns
    rescued = _rescued(contender) - rescued
    settle(server)
    # wrk leaves off in the middle of some requests, which were rescued and not counted.
    share = rescued / seen.requests
    return _Round(seen.requests, seen.rps, seen.p50_ms, seen.p99_ms, cpu_ns / 1e3 / seen.requests, share)


def _rescued(contender: Contender) -> float:
    return metric(contender, "model_fallbacks_total")


def _compare(measured: list[_Round], base: _Round) -> None:
    for each in measured:
        each.ratio = each.rps / base.rps
        if each.rescued:
            each.rescue = rescue_cost(each.cpu_us, base.cpu_us, each.rescued)


def rescue_cost(cpu: float, plain: float, share: float) -> float:
    """What a rescued request takes, in plain ones, where the mean over all is `cpu` and `share` of them is rescued."""
    return (cpu / plain - (1 - share)) / share


def _row(name: str, rounds: list[_Round]) -> dict[str, object]:
    row: dict[str, object] = {
        "contender": name,
        "requests": sum(each.requests for each in rounds),
        "failed": 0,  # one, and there is no row
        "busy": statistics.median(each.cpu_us * each.rps / 1e6 for each in rounds),
        **median_and_range("ratio", [each.ratio for each in rounds]),
    }
    for key in ("rps", "p50_ms", "p99_ms", "cpu_us", "rescued"):
        row[key] = statistics.median(getattr(each, key) for each in rounds)
    if name != YARDSTICK:
        if any(each.rescue is None for each in rounds):
            raise BenchError(f"{name}: no request was rescued; is {POLICY} as it was?")
        rescue = statistics.median(each.rescue or 0.0 for each in rounds)
        row |= {"rescue": rescue}
    row["rounds"] = [asdict(each) for each in rounds]
    return row

"""What each feature costs on the path: one Splitlane beside another whose policy has it, in the same rounds.

The yardstick has metrics and nothing else.  Metrics cannot be switched off: the contender without them
is started by `no_metrics.py`, and its requests are counted by nobody.
"""

import statistics

from bench.contenders import PROGRAM, UPSTREAM, Contender, ours
from bench.json_case import Round, interleaved, row, settings
from bench.plan import RUN, Plan, own_program
from bench.report import Column, Outcome
from bench.spread import median_and_range
from bench.together import together

YARDSTICK = "metrics"
COLUMNS = (
    Column("contender", "policy"),
    Column("together", "at once", "{:.3f}"),
    Column("together_min", "min", "{:.3f}"),
    Column("together_max", "max", "{:.3f}"),
    Column("rps", "requests/s", "{:,.0f}"),
    Column("ratio", "ratio", "{:.3f}"),
    Column("ratio_min", "min", "{:.3f}"),
    Column("ratio_max", "max", "{:.3f}"),
    Column("cpu_us", "CPU µs/request", "{:.1f}"),
    Column("cpu_added", "more", "{:+.1f}"),
    Column("p99_ms", "p99 ms", "{:.2f}"),
    Column("p99_ratio", "p99 ratio", "{:.2f}"),
    Column("requests", "requests", "{:,}"),
)


def _access_log(share: str) -> dict[str, object]:
    return {"observability": {"log_level": "info", "access_log": share}}


def _tracing(share: str) -> dict[str, object]:
    return {"observability": {"log_level": "info", "traces": share, "export_endpoint": UPSTREAM.rstrip("/")}}


def _ledger(name: str) -> dict[str, object]:
    return {"store": {"url": f"sqlite:///{RUN / name}.db"}}


PRICES = {"*": {"input": 0.25, "output": 0.25}}
# Never spent: what is measured is the reservation, not the refusal.
BUDGETS = {"prices": PRICES, "budgets": {"hourly_usd": 1_000_000, "daily_usd": 1_000_000}}

FEATURES: dict[str, dict[str, object]] = {
    YARDSTICK: {},
    "no-metrics": {},
    "access-log-1": _access_log("1%"),
    "access-log-100": _access_log("100%"),
    "budgets": BUDGETS,
    "ledger": _ledger("ledger"),
    "tracing-1": _tracing("1%"),
    "tracing-100": _tracing("100%"),
    "everything": {**_access_log("1%"), **BUDGETS, **_ledger("everything")},  # but tracing
}


def _contender(number: int, name: str, sections: dict[str, object]) -> Contender:
    program = own_program("no_metrics") if name == "no-metrics" else PROGRAM
    return ours(name, 9220 + number, 9240 + number, sections, program)


CONTENDERS = tuple(_contender(number, *feature) for number, feature in enumerate(FEATURES.items()))


def run(plan: Plan) -> Outcome:
    """Measure; raises BenchError when any request of any round failed."""
    _sweep()
    try:
        rounds = interleaved(plan, "features", YARDSTICK)
        _sweep()
        ratios = together(plan, "features", YARDSTICK)
    finally:
        _sweep()
    base = rounds[YARDSTICK]
    rows = [_row(name, each, base, ratios[name]) for name, each in rounds.items()]
    return Outcome("features", settings(plan), COLUMNS, rows)


def _row(name: str, rounds: list[Round], base: list[Round], ratios: list[float]) -> dict[str, object]:
    added = [mine.cpu_us - other.cpu_us for mine, other in zip(rounds, base, strict=True)]
    p99 = [each.p99_ratio for each in rounds]
    at_once = median_and_range("together", ratios)
    return {**row(name, rounds), **at_once, "cpu_added": statistics.median(added), "p99_ratio": statistics.median(p99)}


def _sweep() -> None:
    """The stores, and the logs of each request, are large."""
    for name in FEATURES:
        for file in (*RUN.glob(f"{name}.db*"), RUN / f"{name}.log"):
            file.unlink(missing_ok=True)

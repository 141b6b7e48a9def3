"""What several processes have counted, as one: plain values that are added up, and families made of sums.

Laws: counts are whole numbers, money and times in millionths of a millionth, so that a sum does not depend on
its order and never comes out less than before; a process that has ended leaves its counters and takes its gauges.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import add as add_numbers

from prometheus_client.core import CounterMetricFamily, Metric

from proxy.telemetry.metrics import PICO, Plain, gauge

# Gauges, and counts of what is in the store, of which each process has the same view, or none yet.
HIGHEST = frozenset(
    {
        "splitlane_rollout_percentage", "splitlane_breaker_open", "splitlane_brake_tripped", "splitlane_rollout_held",
        "splitlane_rollout_moves", "splitlane_policy_info", "splitlane_policy_rejected", "splitlane_budget_limit_usd",
        "splitlane_policy_loaded_timestamp_seconds", "process_max_fds",
    }
)  # fmt: skip
LOWEST = frozenset({"splitlane_ledger_up", "splitlane_srm_p", "process_start_time_seconds"})
# Each process knows what all have spent, where there is a store; else its own.
SPENT = "splitlane_budget_spent_usd"
# Why a worker was started again: it ended by itself, or somebody wants new ones.
DIED, ASKED = "died", "asked"

_JOIN: dict[str, Callable[[float, float], float]] = {"highest": max, "lowest": min, "sum": add_numbers}


def plain_families(families: Iterable[Metric], *, stored: bool) -> Plain:
    """Metric families as plain values, by name; `stored`: budgets are kept in a store."""
    plain: Plain = {}
    for family in families:
        name = family.name
        highest = name in HIGHEST or (stored and name == SPENT)
        how = "highest" if highest else "lowest" if name in LOWEST else "sum"
        scale = PICO if family.type == "counter" else None
        samples = {
            (sample.name, tuple((label, str(value)) for label, value in sample.labels.items())):
            sample.value if scale is None else round(sample.value * scale)
            for sample in family.samples
        }  # fmt: skip
        plain[name] = (family.type, family.documentation, how, samples)
    return plain


def worker_families(serving: int, restarts: Mapping[str, int]) -> Iterator[Metric]:
    """How many processes serve, and how often one was started in another's place, by why."""
    yield gauge("splitlane_workers", "Processes that take requests.", serving)
    family = CounterMetricFamily(
        "splitlane_worker_restarts", "Workers started in another's place, by why.", labels=["reason"]
    )
    for reason in (DIED, ASKED):
        family.add_metric([reason], restarts.get(reason, 0))
    yield family


def families_of(plain: Plain) -> Iterator[Metric]:
    """The families that `plain_families` took apart, or their sums."""
    for name, (kind, documentation, _, samples) in plain.items():
        family = Metric(name, documentation, kind)
        for (sample, labels), value in samples.items():
            family.add_sample(sample, dict(labels), value / PICO if kind == "counter" else value)
        yield family


def add_families(total: Plain, part: Plain, *, ended: bool = False) -> None:
    """Add one process's families to a sum; of one that has ended, only its counters."""
    for name, (kind, documentation, how, samples) in part.items():
        if ended and kind != "counter":
            continue
        if name not in total:
            total[name] = (kind, documentation, how, dict(samples))
            continue
        summed = total[name][3]
        for sample, value in samples.items():
            summed[sample] = _JOIN[how](summed[sample], value) if sample in summed else value


def add(total: Plain, part: Plain) -> None:
    """Add one process's counts, as `Metrics.plain` gives them, to a sum, which begins as an empty dict."""
    for key, value in part.items():
        if isinstance(value, dict):
            add(total.setdefault(key, {}), value)
        elif isinstance(value, list):
            before = total.get(key)
            total[key] = value if before is None else [one + more for one, more in zip(before, value, strict=True)]
        else:
            total[key] = total.get(key, 0) + value

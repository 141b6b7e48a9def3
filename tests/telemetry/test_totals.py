"""Counts of several processes as one: nothing is lost, nothing comes out less, and the names stay."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, permutations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.ledger.frames import Frames, frame
from proxy.telemetry.metrics import Metrics, Plain, gauge
from proxy.telemetry.totals import add, add_families, families_of, plain_families
from proxy.words import Attempt, Failure, Usage
from tests.support.records import SOUND

ATTEMPT = Attempt("up", "ft:m", 200, None, 0.0, 1.0, None, 0.001)


def counting(seed: int, requests: int = 20) -> Metrics:
    """Metrics of one process, after some requests of many fates."""
    chance = random.Random(seed)
    metrics = Metrics(lambda: frozenset({"ft:m", "m"}), tuple)
    for _ in range(requests):
        failure = chance.choice([None, None, Failure.RESET])
        metrics.settle(
            replace(
                SOUND,
                attempts=(ATTEMPT,),
                failure=failure,
                latency=chance.random(),
                ttft=chance.random(),
                cost=chance.random() / 1000,
                usage=Usage(chance.randrange(1, 100), chance.randrange(1, 100)),
                fallback=chance.choice([None, Failure.RESET]),
            )
        )
        metrics.lag.observe(chance.random() / 100)
    return metrics


def summed(*parts: Plain) -> Plain:
    total: Plain = {}
    for part in parts:
        add(total, part)
    return total


def exposition(metrics: Metrics) -> bytes:
    registry = CollectorRegistry()
    registry.register(metrics)
    return bytes(generate_latest(registry))


def test_counts_of_one_process_go_through_a_pipe_and_are_told_as_before() -> None:
    metrics = counting(1)
    (message,) = Frames().feed(frame(("counts", metrics.plain())))
    loaded = Metrics(frozenset, tuple)
    loaded.load(message[1])
    assert loaded.plain() == metrics.plain()
    names = [line.rpartition(b" ")[0] for line in exposition(metrics).splitlines()]
    assert [line.rpartition(b" ")[0] for line in exposition(loaded).splitlines()] == names


def test_sum_does_not_depend_on_the_order_and_leaves_its_parts_alone() -> None:
    parts = [counting(seed).plain() for seed in range(4)]
    copies = [counting(seed).plain() for seed in range(4)]
    sums = [summed(*order) for order in permutations(parts)]
    assert all(each == sums[0] for each in sums)
    assert parts == copies
    assert sum(sum(each["latency"]["counts"]) for each in sums[0]["series"].values()) == 80


def test_no_counter_comes_out_less_when_a_process_ends_and_another_begins() -> None:
    """Sums of floats would, by a last digit, which Prometheus takes for a restart."""
    lives = [counting(seed) for seed in range(6)]
    gone: Plain = {}
    costs = []
    for number, life in enumerate(lives[:-2]):
        costs.append(summed(gone, life.plain(), lives[-1].plain()))
        add(gone, life.plain())
        costs.append(summed(gone, *[each.plain() for each in lives[-1:]], counting(100 + number, 0).plain()))
    for before, after in pairwise(costs):
        for key, series in before["series"].items():
            assert after["series"][key]["cost"] >= series["cost"]
            assert after["series"][key]["latency"]["total"] >= series["latency"]["total"]


def families(in_flight: int, moves: int, up: int, dropped: float) -> Iterator[Metric]:
    yield gauge("splitlane_in_flight", "Requests.", in_flight)
    yield gauge("splitlane_ledger_up", "Up.", up)
    percentage = GaugeMetricFamily("splitlane_rollout_percentage", "Share.", labels=["agent"])
    percentage.add_metric(["qa"], 25)
    yield percentage
    decided = CounterMetricFamily("splitlane_rollout_moves", "Decisions.", labels=["agent"])
    decided.add_metric(["qa"], moves)
    yield decided
    yield CounterMetricFamily("splitlane_log_dropped", "Lines.", value=dropped)


def values(plain: Plain) -> dict[str, float]:
    return {sample.name: sample.value for family in families_of(plain) for sample in family.samples}


def test_gauges_are_added_or_are_of_one_view_and_go_with_their_process() -> None:
    one, other = (plain_families(each, stored=True) for each in (families(3, 7, 1, 0.5), families(4, 6, 0, 2.0)))
    total: Plain = {}
    add_families(total, one)
    add_families(total, other)
    assert values(total) == {
        "splitlane_in_flight": 7,
        "splitlane_ledger_up": 0,
        "splitlane_rollout_percentage": 25,
        "splitlane_rollout_moves_total": 7,
        "splitlane_log_dropped_total": 2.5,
    }
    total = {}
    add_families(total, one, ended=True)
    add_families(total, other)
    assert values(total) == {
        "splitlane_in_flight": 4,
        "splitlane_ledger_up": 0,
        "splitlane_rollout_percentage": 25,
        "splitlane_rollout_moves_total": 7,
        "splitlane_log_dropped_total": 2.5,
    }


def test_money_spent_is_everybodys_view_with_a_store_and_each_ones_own_without() -> None:
    def spent(*, stored: bool) -> float:
        total: Plain = {}
        for dollars in (2.0, 3.0):
            add_families(total, plain_families([gauge("splitlane_budget_spent_usd", "Spent.", dollars)], stored=stored))
        return values(total)["splitlane_budget_spent_usd"]

    assert spent(stored=True) == 3.0
    assert spent(stored=False) == 5.0

"""What is frozen for a stage, and that it makes no difference when."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from proxy.ledger import thresholds
from proxy.ledger.database import Database
from proxy.ledger.thresholds import ENOUGH, FEW, freeze, quantile
from proxy.words import Assignment, Decision, Failure, Record, Variant
from tests.ledger.records import NOW, keep, opened, record

SUMS = "percentage, bucket, variant, requests, slow, capped_latency, capped_cost"


def some(count: int, seed: int = 1, percentage: float = 10.0, time: float = NOW) -> list[Record]:
    """Requests of both arms with latencies and costs of a long tail."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        bucket = chance.randrange(10_000)
        variant = Variant.FINETUNED if bucket < percentage * 100 else Variant.BASELINE
        made.append(
            record(
                time=time + chance.random(),
                decision=Decision(variant, Assignment(variant.value), bucket % 50 + bucket // 1000 * 1000),
                percentage=percentage,
                latency=chance.lognormvariate(0, 1),
                cost=chance.lognormvariate(-7, 1),
                unit=f"{bucket:032x}",
            )
        )
    return made


def sums(database: Database) -> list[tuple[object, ...]]:
    rows = database.execute(f"SELECT {SUMS} FROM rollups ORDER BY 1, 2, 3")
    return [tuple(round(value, 6) if isinstance(value, float) else value for value in row) for row in rows]


def stages(database: Database) -> list[tuple[float | None, ...]]:
    return database.execute("SELECT percentage, tau, latency_cap, cost_cap FROM stages ORDER BY percentage")


@pytest.fixture
def store(store_url: str) -> object:
    with opened(store_url) as database:
        yield database


def in_batches(database: Database, records: list[Record], name: str) -> None:
    for start in range(0, len(records), 500):
        keep(database, records[start : start + 500], f"{name}-{start}")


def test_percentiles_of_the_baseline_are_frozen_and_late_is_as_good_as_early(store: Database) -> None:
    records = some(3 * ENOUGH)
    in_batches(store, records[: 2 * ENOUGH], "early")
    before = sums(store)
    assert all(row[4] == 0 for row in before), "nothing is slow as long as nobody knows what slow is"
    assert freeze(store, NOW + 1) == 1
    in_batches(store, records[2 * ENOUGH :], "late")
    ((_, tau, latency_cap, cost_cap),) = stages(store)
    assert tau is not None
    assert latency_cap is not None
    assert cost_cap is not None
    seen = [each for each in records[: 2 * ENOUGH] if each.decision.variant is Variant.BASELINE]
    assert tau == quantile([each.latency for each in seen], 0.95)
    assert (latency_cap, cost_cap) == (
        quantile([each.latency for each in seen], 0.995),
        quantile([each.cost for each in seen], 0.995),
    )
    expected: dict[tuple[int, str], list[float]] = {}
    for each in records:
        found = expected.setdefault((each.decision.bucket, str(each.decision.variant)), [0, 0, 0, 0])
        found[0] += 1
        found[1] += each.latency > tau
        found[2] += min(each.latency, latency_cap)
        found[3] += min(each.cost, cost_cap)
    assert [(row[1], row[2]) for row in sums(store)] == sorted(expected)
    for _, bucket, variant, *values in sums(store):
        assert values == pytest.approx(expected[int(str(bucket)), str(variant)], abs=1e-5)


def test_outage_of_the_baseline_is_no_measure_of_what_is_slow_or_dear(store: Database) -> None:
    failed = [replace(each, failure=Failure.CONNECT, status=502, latency=0.001, cost=0.0) for each in some(2 * ENOUGH)]
    in_batches(store, failed, "outage")
    assert not freeze(store, NOW + 1)
    in_batches(store, some(2 * ENOUGH, 2), "well")
    assert freeze(store, NOW + 2)
    ((_, tau, _, cost_cap),) = stages(store)
    assert tau is not None
    assert cost_cap is not None
    assert tau > 1
    assert cost_cap > 0


def test_tau_is_the_rollouts_and_caps_are_the_stages(store: Database) -> None:
    in_batches(store, some(2 * ENOUGH, percentage=0.0), "observed")
    assert freeze(store, NOW + 1) == 1
    in_batches(store, [replace(each, latency=each.latency * 3) for each in some(4 * ENOUGH, 2, 10.0, NOW + 60)], "ten")
    assert freeze(store, NOW + 61) == 1
    (_, tau, cap, _), (_, later_tau, later_cap, _) = stages(store)
    assert tau == later_tau
    assert cap is not None
    assert later_cap is not None
    assert later_cap > cap


@pytest.mark.parametrize(
    ("count", "after", "frozen"), [(ENOUGH // 2, 1, 0), (2 * FEW, 86_401, 1), (FEW // 2, 86_401, 0)]
)
def test_few_requests_wait_for_a_day(store: Database, count: int, after: float, frozen: int) -> None:
    in_batches(store, some(count), "few")
    in_batches(store, some(1, 3, time=NOW + after - 1), "newest")
    assert freeze(store, NOW + after) == frozen


def test_everybody_on_the_fine_tune_needs_no_thresholds(store: Database) -> None:
    in_batches(store, some(2 * ENOUGH, percentage=0.0), "observed")
    assert freeze(store, NOW + 1) == 1
    in_batches(store, some(100, 2, 100.0), "all")
    assert freeze(store, NOW + 1) == 0


def test_stage_that_is_too_large_to_be_looked_at_again_is_left_alone(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_batches(store, some(2 * ENOUGH), "large")
    monkeypatch.setattr(thresholds, "MOST", 2 * ENOUGH - 1)
    assert not freeze(store, NOW + 1)
    monkeypatch.setattr(thresholds, "MOST", 2 * ENOUGH)
    assert freeze(store, NOW + 1)


def test_proxies_that_write_while_others_freeze_leave_the_sums_exact(store_url: str) -> None:
    with opened(store_url) as database:
        for seed, percentage in enumerate((10.0, 25.0, 50.0)):
            in_batches(database, some(700, seed, percentage), f"before-{seed}")
    started = threading.Barrier(4)

    def writes(seed: int) -> None:
        with opened(store_url) as database:
            started.wait()
            for number in range(12):
                percentage = (10.0, 25.0, 50.0)[number % 3]
                keep(database, some(60, 100 * seed + number, percentage, NOW + 5), f"{seed}-{number}")

    def freezes(_: int) -> int:
        with opened(store_url) as database:
            started.wait()
            return sum(freeze(database, NOW + 6) for _ in range(4))

    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(writes, seed) for seed in (1, 2)]
        frozen = sum(threads.map(freezes, (1, 2)))
        for each in writing:
            each.result()
    with opened(store_url) as database:
        assert frozen == 3, "each stage once"
        assert len({tau for _, tau, _, _ in stages(database)}) == 1
        limits = {row[0]: row[1:] for row in stages(database)}
        expected: dict[tuple[object, ...], list[float]] = {}
        for *key, latency, cost in database.execute("SELECT percentage, bucket, variant, latency, cost FROM requests"):
            tau, latency_cap, cost_cap = limits[key[0]]
            found = expected.setdefault(tuple(key), [0, 0, 0, 0])
            for place, value in enumerate((1, latency > tau, min(latency, latency_cap), min(cost, cost_cap))):
                found[place] += value
        assert {row[:3]: list(row[3:]) for row in sums(database)} == {
            key: pytest.approx(values, abs=1e-5) for key, values in expected.items()
        }
        assert sum(values[0] for values in expected.values()) == 3 * 700 + 2 * 12 * 60


def test_two_proxies_freeze_once(store_url: str) -> None:
    with opened(store_url) as one, opened(store_url) as other:
        in_batches(one, some(2 * ENOUGH), "some")
        assert freeze(one, NOW + 1) + freeze(other, NOW + 2) == 1
        in_batches(other, some(500, 5), "other")
        assert one.execute("SELECT sum(slow) FROM rollups")[0][0] > 0


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (1.0, 4)])
def test_quantile_is_the_nearest_rank(share: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], share) == value

"""The last five minutes of an agent, from counters."""

from dataclasses import replace

import pytest

from proxy.telemetry.metrics import LATENCY_BUCKETS, Metrics
from proxy.telemetry.recent import EVERY, LOOKS, Outcomes, Recent, quantile
from proxy.words import Failure
from tests.support.records import SOUND

KEY = ("qa_agent", "finetuned")


def watched() -> tuple[Metrics, Recent]:
    metrics = Metrics(lambda: frozenset({"ft:m", "m"}), list)
    recent = Recent(metrics)
    recent.look(1000.0)
    return metrics, recent


def test_nothing_is_known_of_who_had_no_requests() -> None:
    assert watched()[1].outcomes() == {}


def test_requests_failures_and_rescues_are_told_apart() -> None:
    metrics, recent = watched()
    for record in (
        SOUND,
        replace(SOUND, served="m", fallback=Failure.SERVER_ERROR),
        replace(SOUND, served="", fallback=Failure.RESET, failure=Failure.CONNECT, status=502),
        replace(SOUND, failure=Failure.STREAM_TRUNCATED),
    ):
        metrics.settle(record)
    outcomes = recent.outcomes()[KEY]
    assert (outcomes.requests, outcomes.failed, outcomes.rescued) == (4, 2, 2)


@pytest.mark.parametrize(
    "failure", ["bad_request", "content_filter", "context_length", "auth", "budget", "client_gone"]
)
def test_what_is_not_the_models_fault_is_no_failure(failure: str) -> None:
    metrics, recent = watched()
    status = 499 if failure == "client_gone" else 400
    metrics.settle(replace(SOUND, failure=Failure(failure), status=status))
    outcomes = recent.outcomes()[KEY]
    assert (outcomes.requests, outcomes.failed) == (1, 0)


@pytest.mark.parametrize("reason", ["brake", "breaker_open", "budget"])
def test_fine_tune_that_was_not_asked_was_not_rescued(reason: str) -> None:
    metrics, recent = watched()
    metrics.settle(replace(SOUND, served="m", fallback=Failure(reason)))
    assert recent.outcomes()[KEY].rescued == 0


def test_what_is_long_ago_is_forgotten() -> None:
    metrics, recent = watched()
    metrics.settle(replace(SOUND, failure=Failure.RESET, status=502))
    for number in range(1, LOOKS + 1):
        recent.look(1000.0 + number * EVERY)
        assert recent.outcomes()[KEY].requests == 1
    recent.look(1000.0 + (LOOKS + 1) * EVERY)
    assert recent.outcomes()[KEY] == Outcomes(0, 0, 0, None)


def test_looks_that_come_more_often_count_no_time() -> None:
    metrics, recent = watched()
    metrics.settle(SOUND)
    for number in range(1000):
        recent.look(1000.0 + number * 0.02)
    assert recent.outcomes()[KEY].requests == 1


def test_variants_models_are_added_up() -> None:
    metrics, recent = watched()
    metrics.settle(SOUND)
    metrics.settle(replace(SOUND, served="m", latency=100.0))
    outcomes = recent.outcomes()[KEY]
    assert outcomes.requests == 2
    assert outcomes.p95 is not None
    assert outcomes.p95 > 60


def test_series_that_left_with_their_agent_take_nothing_below_zero() -> None:
    metrics, recent = watched()
    for _ in range(3):
        metrics.settle(SOUND)
    recent.look(1000.0 + EVERY)
    for number in range(LOOKS):
        recent.look(1000.0 + (number + 2) * EVERY)
    metrics.load(
        {
            "series": {},
            "fallbacks": {},
            "assignments": {},
            "adapted": {},
            "overhead": metrics.overhead.plain(),
            "lag": metrics.lag.plain(),
        }
    )
    metrics.settle(SOUND)
    assert recent.outcomes()[KEY] == Outcomes(0, 0, 0, None)


def test_quantile_is_even_within_a_bucket() -> None:
    counts = [0] * (len(LATENCY_BUCKETS) + 1)
    assert quantile(counts, 0.95) is None
    counts[LATENCY_BUCKETS.index(5.0)] = 100
    assert quantile(counts, 0.5) == pytest.approx(4.0)
    assert quantile(counts, 0.95) == pytest.approx(4.9)
    counts[-1] = 10_000
    assert quantile(counts, 0.95) == LATENCY_BUCKETS[-1]

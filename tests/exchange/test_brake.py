"""The brake's evidence, over a clock that is passed in (STATISTICS.md G)."""

import json
import logging
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

import pytest

from proxy.exchange.brake import BRAKING, LEAST, MEMORY, Brakes, BrakeState, FailureLimit
from proxy.experiment.cusum import threshold
from proxy.policy.snapshot import AgentPolicy, BrakePolicy
from proxy.words import Brake, Failure
from tests.support.lane import policy_of

POLICY = BrakePolicy()
DEAD = Failure.SERVER_ERROR
THRESHOLD = threshold(POLICY.odds)


def agent_of(**changes: object) -> AgentPolicy:
    (agent,) = policy_of("http://127.0.0.1:9", agents={"qa_agent": changes}).agents.values()
    return agent


def state() -> BrakeState:
    return BrakeState(agent_of())


class Call(NamedTuple):
    """One user's call, and how often each model fails."""

    bucket: int
    finetuned: bool
    failed: bool
    rescue_failed: bool


def calls(seed: int, share: float, finetuned: float, baseline: float, buckets: int = 10_000) -> Iterator[Call]:
    """Endless calls of random users, of whom a share is fine-tuned; each model fails at its own rate."""
    random = Random(seed)
    while True:
        bucket = random.randrange(buckets)
        treated = bucket < share * buckets
        rate = finetuned if treated else baseline
        yield Call(bucket, treated, random.random() < rate, random.random() < baseline)


def play(brake: BrakeState, played: Iterator[Call], count: int, *, per_second: float = 10.0) -> int | None:
    """How many first attempts on the fine-tune it takes to trip; None: it does not, in `count` calls."""
    attempts = 0
    for number, call in enumerate(played):
        if number == count:
            return None
        now = number / per_second
        failure = DEAD if call.failed else None
        if not call.finetuned:
            brake.baseline(failure, call.bucket, now, POLICY)
            continue
        attempts += 1
        if (failure is not None or brake.cusum.total) and brake.finetuned(failure, call.bucket, now, POLICY):
            return attempts
        if failure is not None:
            brake.rescued(DEAD if call.rescue_failed else None, call.bucket, now, POLICY)
    raise AssertionError


# --- what trips -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("before", [0, 5000], ids=["new", "after-a-good-week"])
def test_total_outage_trips_within_ten_first_attempts(share: float, before: int) -> None:
    brake = state()
    assert play(brake, calls(1, share, 0.005, 0.005), before) is None
    attempts = play(brake, calls(2, share, 1.0, 0.005), 100_000)
    assert attempts is not None
    assert attempts <= 10


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_half_of_all_calls_failing_trips_within_fifty(share: float) -> None:
    attempts = play(state(), calls(3, share, 0.5, 0.01), 100_000)
    assert attempts is not None
    assert attempts <= 50


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_background_of_two_per_cent_never_trips(share: float) -> None:
    assert play(state(), calls(4, share, 0.02, 0.02), 100_000) is None


def test_bad_week_of_both_arms_never_trips() -> None:
    assert play(state(), calls(5, 0.5, 0.15, 0.15), 100_000) is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("before", [0, 20_000], ids=["new", "after-a-good-week"])
def test_both_arms_dead_never_trips(share: float, before: int) -> None:
    brake = state()
    assert play(brake, calls(6, share, 0.0, 0.0), before) is None
    assert play(brake, calls(7, share, 1.0, 1.0), 10_000) is None


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_fine_tune_that_stays_dead_when_the_baseline_has_recovered_trips(share: float) -> None:
    brake = state()
    assert play(brake, calls(8, share, 1.0, 1.0), 2000) is None
    attempts = play(brake, calls(9, share, 1.0, 0.0), 100_000)
    assert attempts is not None
    assert attempts <= 60


def test_looping_client_among_others_never_trips() -> None:
    """A hundred failures a second of one user, for an hour, beside five a second that succeed."""
    brake = state()
    for tick in range(3600):
        now = float(tick)
        for _ in range(100):
            assert not brake.finetuned(DEAD, 17, now, POLICY)
        for other in range(5):
            if brake.cusum.total:
                assert not brake.finetuned(None, other, now, POLICY)


def test_looping_client_of_the_baseline_hides_no_outage() -> None:
    brake = state()
    for _ in range(2 * MEMORY):
        brake.baseline(None, 5000, 0.0, POLICY)
    for _ in range(1000):
        brake.baseline(DEAD, 9999, 1.0, POLICY)
        brake.rescued(DEAD, 9999, 1.0, POLICY)
    attempts = play(brake, calls(10, 0.1, 1.0, 0.0), 100_000)
    assert attempts is not None
    assert attempts <= 12


def test_requests_without_a_bucket_share_one() -> None:
    brake = state()
    failures = [brake.finetuned(DEAD, -1, 0.0, POLICY) for _ in range(100)]
    assert not any(failures)
    assert brake.reasons == {"server_error": POLICY.per_minute}


# --- what counts ------------------------------------------------------------------------------------


def test_success_without_evidence_changes_nothing() -> None:
    brake = state()
    assert not brake.finetuned(None, 1, 0.0, POLICY)
    assert brake.cusum.total == 0


def test_successes_take_evidence_back() -> None:
    brake = state()
    brake.finetuned(DEAD, 1, 0.0, POLICY)
    before = brake.cusum.total
    brake.finetuned(None, 2, 0.0, POLICY)
    assert 0 < brake.cusum.total < before


@pytest.mark.parametrize("failure", sorted(set(Failure) - BRAKING))
def test_what_is_not_the_models_fault_counts_neither_way(failure: Failure) -> None:
    brake = state()
    brake.finetuned(DEAD, 1, 0.0, POLICY)
    before = brake.cusum.total
    for bucket in range(100):
        assert not brake.finetuned(failure, bucket, 0.0, POLICY)
        brake.baseline(failure, bucket, 0.0, POLICY)
    assert (brake.cusum.total, brake.calls) == (before, 1)
    assert (brake.baseline_calls, brake.baseline_failures, brake.baseline_recent) == (0, 0, 0)


def test_clients_and_our_own_troubles_are_nobodys_evidence() -> None:
    spared = {"auth", "context_length", "content_filter", "bad_request", "breaker_open", "brake", "budget", "overload"}
    assert {failure.value for failure in set(Failure) - BRAKING} == spared | {"client_gone", "shutdown"}


def test_policy_that_switches_it_off_gathers_nothing() -> None:
    brake = state()
    off = POLICY._replace(enabled=False)
    assert not any(brake.finetuned(DEAD, bucket, 0.0, off) for bucket in range(100))
    assert brake.cusum.total == 0


def test_policys_floor_and_odds_decide() -> None:
    def needed(policy: BrakePolicy) -> int:
        brake = state()
        return next(count for count in range(1, 1000) if brake.finetuned(DEAD, count, 0.0, policy))

    assert needed(POLICY) == 9
    assert needed(POLICY._replace(odds=10.0)) == 2
    assert needed(POLICY._replace(floor=0.25)) > 9


def test_failures_of_a_bucket_count_again_in_the_next_minute() -> None:
    limit = FailureLimit()
    assert [limit.admits(7, 30.0, 2) for _ in range(3)] == [True, True, False]
    assert limit.admits(8, 30.0, 2)
    assert [limit.admits(7, 60.0, 2) for _ in range(3)] == [True, True, False]


# --- the baseline's rate ------------------------------------------------------------------------------


def test_normal_is_twice_the_baselines_rate() -> None:
    brake = state()
    for number in range(1000):
        brake.baseline(DEAD if number % 20 == 0 and number < 900 else None, number, number / 10, POLICY)
    p0, p1 = brake.rates(POLICY)
    assert p0 == pytest.approx(0.09)
    assert p1 == pytest.approx(0.36)


def test_one_failure_among_few_calls_is_no_rate() -> None:
    brake = state()
    brake.baseline(DEAD, 1, 0.0, POLICY)
    for number in range(2, 100):
        brake.baseline(None, number, 1.0, POLICY)
    assert brake.rates(POLICY)[0] < 3 / LEAST


def test_baselines_old_failures_are_forgotten() -> None:
    brake = state()
    for number in range(1000):
        brake.baseline(None if number % 3 else DEAD, number, 0.0, POLICY)
    assert brake.rates(POLICY)[0] > 0.5
    for number in range(10 * MEMORY):
        brake.baseline(None, number, 1.0, POLICY)
        assert brake.baseline_calls < 2 * MEMORY
    assert brake.rates(POLICY)[0] == POLICY.floor


# --- all agents ---------------------------------------------------------------------------------------


def tripping(brakes: Brakes, agent: AgentPolicy) -> BrakeState:
    """A state with all it takes."""
    brake = brakes.of(agent)
    for bucket in range(9):
        brake.finetuned(DEAD, bucket, bucket / 10, POLICY)
    assert brake.cusum.total > THRESHOLD
    return brake


def collecting(brakes: Brakes) -> list[Brake]:
    told: list[Brake] = []
    note: Callable[[Brake], None] = told.append
    brakes.on_trip = note
    return told


def test_tripping_is_told_once_with_its_evidence(caplog: pytest.LogCaptureFixture) -> None:
    brakes = Brakes()
    told = collecting(brakes)
    agent = agent_of()
    brake = tripping(brakes, agent)
    for _ in range(2):
        brakes.trip(brake, "id-1", 0.8, POLICY)
    assert [(each.id, each.agent) for each in told] == [("id-1", "qa_agent")]
    assert brakes.tripped == {"qa_agent": told[0]}
    assert brakes.trips == {"qa_agent": 1}
    assert json.loads(told[0].evidence) == {
        "model": agent.finetuned.model,
        "upstream": "up",
        "failures": 9,
        "calls": 9,
        "seconds": 0.8,
        "reasons": {"server_error": 9},
        "normal_rate": 0.02,
        "outage_rate": 0.08,
        "baseline_calls": 0,
        "baseline_failures": 0,
        "baseline_recent_rate": 0.0,
        "total": 12.477,
        "threshold": 11.513,
    }
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told[0].evidence in line.getMessage()


def test_evidence_is_of_its_own_time() -> None:
    brake = state()
    brake.finetuned(Failure.RESET, 1, 0.0, POLICY)
    while brake.cusum.total:
        brake.finetuned(None, 2, 1.0, POLICY)
    brake.finetuned(DEAD, 3, 5.0, POLICY)
    shown = json.loads(brake.evidence(5.5, POLICY))
    assert (shown["calls"], shown["reasons"], shown["seconds"]) == (1, {"server_error": 1}, 0.5)


def test_evidence_survives_a_reload_and_goes_with_agent_or_model() -> None:
    brakes = Brakes()
    agent = agent_of()
    brake = tripping(brakes, agent)
    brakes.keep([agent_of(temperature=0.5)])
    assert brakes.of(agent) is brake
    brakes.keep([agent_of(fine_tuned="ft:better")])
    assert brakes.of(agent) is not brake
    brakes.trips["qa_agent"] = 1
    brakes.keep([])
    assert brakes.trips == {}


def test_baselines_outage_is_not_what_is_normal() -> None:
    brake = state()
    for number in range(1000):
        brake.baseline(DEAD, number, 0.0, POLICY)
    assert brake.rates(POLICY)[0] > 1, "nothing is evidence now"
    for number in range(100):
        brake.baseline(None, number, 1.0, POLICY)
    assert brake.rates(POLICY)[0] < 0.25


def test_brake_in_force_survives_what_evidence_does_not() -> None:
    brakes = Brakes()
    brakes.trip(tripping(brakes, agent_of()), "id-1", 0.0, POLICY)
    brakes.keep([])
    assert brakes.tripped.keys() == {"qa_agent"}


def test_evidence_of_a_policy_that_is_no_more_trips_nothing() -> None:
    brakes = Brakes()
    brake = tripping(brakes, agent_of())
    brakes.keep([])
    brakes.trip(brake, "id-1", 0.0, POLICY)
    assert brakes.tripped == {}


def test_cleared_brake_begins_without_evidence() -> None:
    brakes = Brakes()
    brake = tripping(brakes, agent_of())
    brakes.trip(brake, "id-1", 0.0, POLICY)
    brakes.hold({"other": Brake("id-2", "other", 0.0, "{}")})
    assert brakes.tripped.keys() == {"other"}
    assert brakes.of(agent_of()) is brake
    assert brake.cusum.total == 0

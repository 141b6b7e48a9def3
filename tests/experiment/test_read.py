"""The evidence is what was written: by stage and bucket, people by their first stage, and what was decided."""

from collections.abc import Sequence

import pytest

from proxy.experiment.evidence import Exposed, Hold
from proxy.experiment.memory import keep_p_values, put_hold
from proxy.experiment.read import read_evidence
from proxy.ledger.batch import Batch, write
from proxy.ledger.brakes import trip
from proxy.ledger.database import Answer, Database
from proxy.ledger.feedback import feedback_row, join
from proxy.words import Assignment, Brake, Decision, Failure, Feedback, Record, Variant
from tests.ledger.records import NOW, SALT, keep, opened, record

AGENT = "qa_agent"


@pytest.fixture
def store(store_url: str) -> object:
    with opened(store_url) as database:
        yield database


def asked(user: int, percentage: float, **changes: object) -> Record:
    """A request of a user whose bucket is his number."""
    variant = Variant.FINETUNED if user < percentage * 100 else Variant.BASELINE
    decision = Decision(variant, Assignment(variant.value), user)
    return record(decision=decision, percentage=percentage, unit=f"{user:032x}", **changes)


def test_empty_store_has_no_evidence(store: Database) -> None:
    evidence = read_evidence(store, AGENT, SALT, 10.0, NOW)
    assert (evidence.stages, evidence.exposed, evidence.users) == ((), (), (0, 0))
    assert (evidence.since, evidence.newest, evidence.newest_of_any, evidence.missing_users) == (None,) * 4
    assert (evidence.thresholds, evidence.brake, evidence.hold, evidence.p_values) == (None, None, None, {})


def test_sums_by_stage_and_bucket_and_people_by_their_first_stage(store: Database) -> None:
    keep(store, [
        asked(5, 10.0), asked(5, 10.0, fallback=Failure.RESET), asked(2000, 10.0, failure=Failure.RESET, status=502),
        asked(3000, 10.0, time=NOW + 5),
    ])  # fmt: skip
    later = NOW + 100
    keep(store, [
        asked(5, 25.0, time=later), asked(2000, 25.0, time=later), asked(9000, 25.0, time=later + 1),
        asked(7, 25.0, time=later + 2, fallback=Failure.BUDGET), record(agent="other", time=later + 50),
    ], "batch-2")  # fmt: skip
    evidence = read_evidence(store, AGENT, SALT, 25.0, later + 60)
    ten, quarter = evidence.stages
    assert (ten.percentage, quarter.percentage) == (10.0, 25.0)
    assert [each[:6] for each in ten.buckets] == [
        (5, True, 2, 2, 1, 1), (2000, False, 1, 0, 0, 0), (3000, False, 1, 1, 1, 0),
    ]  # fmt: skip
    assert [each[:6] for each in quarter.buckets] == [
        (5, True, 1, 1, 1, 0), (7, True, 1, 1, 1, 0), (2000, True, 1, 1, 1, 0), (9000, False, 1, 1, 1, 0),
    ], "a spent budget is no failure of the model"  # fmt: skip
    assert ten.buckets[0].latency == pytest.approx(0.84)
    assert ten.buckets[0].cost == pytest.approx(0.5)
    assert evidence.exposed == (Exposed(10.0, 1, 2), Exposed(25.0, 1, 1))
    assert evidence.users == (3, 1)
    assert (evidence.since, evidence.newest, evidence.newest_of_any) == (later, later + 2, later + 50)


def test_evidence_is_of_one_moment_and_keeps_nobody_from_writing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(store_url) as reader, opened(store_url) as writer:
        keep(writer, [asked(5, 10.0)])
        plain = reader.execute
        seen: list[str] = []

        def execute(statement: str, parameters: Sequence[object] = ()) -> list[Answer]:
            rows = plain(statement, parameters)
            if " FROM stages" in statement and not seen:
                seen.append(statement)
                keep(writer, [asked(6, 10.0)], "meanwhile")
            return rows

        monkeypatch.setattr(reader, "execute", execute)
        evidence = read_evidence(reader, AGENT, SALT, 10.0, NOW)
        assert seen
        assert ([len(stage.buckets) for stage in evidence.stages], evidence.users) == ([1], (1, 0))
        assert read_evidence(reader, AGENT, SALT, 10.0, NOW).users == (2, 0)


def test_another_salt_is_another_experiment(store: Database) -> None:
    keep(store, [asked(5, 10.0), asked(5, 10.0, salt="new")])
    evidence = read_evidence(store, AGENT, "new", 10.0, NOW)
    assert [stage.buckets[0].requests for stage in evidence.stages] == [1]


def test_missing_users_are_counted_and_compared_with_nobody(store: Database) -> None:
    nobody = Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1)
    keep(store, [asked(5, 10.0), asked(6, 10.0), asked(7, 10.0), record(decision=nobody, unit="")])
    evidence = read_evidence(store, AGENT, SALT, 10.0, NOW)
    assert evidence.missing_users == 0.25
    assert sum(each.requests for stage in evidence.stages for each in stage.buckets) == 3


def test_ratings_come_with_their_requests(store: Database) -> None:
    rated = asked(5, 10.0)
    keep(store, [rated, asked(5, 10.0)])
    row = feedback_row(Feedback("f", rated.request_id, "", 0.5, "", NOW))
    write(store, Batch("ratings", (), (row,)), "p", NOW)
    with store.transaction():
        join(store, NOW + 1)
    bucket = read_evidence(store, AGENT, SALT, 10.0, NOW).stages[0].buckets[0]
    assert (bucket.requests, bucket.rated, bucket.score) == (2, 1, 0.5)


def test_brake_hold_and_p_values_are_remembered(store: Database) -> None:
    keep(store, [asked(5, 10.0)])
    brake = Brake("b", AGENT, NOW, "{}")
    trip(store, brake)
    put_hold(store, AGENT, Hold("paused", "lunch", NOW - 1), "ann")
    put_hold(store, AGENT, Hold("failed", "GUARDRAIL_FAIL(success)", NOW), "run")
    keep_p_values(store, AGENT, SALT, {"srm": 0.5, "success": 0.1})
    keep_p_values(store, AGENT, SALT, {"srm": 0.6, "success": 0.01})
    evidence = read_evidence(store, AGENT, SALT, 10.0, NOW)
    assert evidence.brake == brake
    assert evidence.hold == Hold("failed", "GUARDRAIL_FAIL(success)", NOW)
    assert evidence.p_values == {"srm": 0.5, "success": 0.01}

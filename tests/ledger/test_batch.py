"""One batch in either store: every table, exactly once, poison kept aside.  ACCEPTANCE 40."""

from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.ledger.batch import Batch, write
from proxy.ledger.database import Database
from proxy.ledger.feedback import feedback_row
from proxy.ledger.row import Row
from proxy.words import Assignment, Attempt, Decision, Failure, Feedback, Record, Usage, Variant
from tests.ledger.records import HOUR, NOW, SALT, count, keep, opened, record
from tests.support.records import row_of

FINETUNED = Decision(Variant.FINETUNED, Assignment.FINETUNED, 1849)


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    with opened(store_url) as database:
        yield database


def rescued() -> Record:
    failed = Attempt("up", "ft:m", 500, Failure.SERVER_ERROR, 0.0, 0.1, None, 0.0)
    answered = Attempt("up", "m", 200, None, 0.1, 0.4, Usage(10, 20, 5, 3), 0.5)
    return record(
        decision=FINETUNED, unit="b" * 32, fallback=Failure.SERVER_ERROR, attempts=(failed, answered),
        usage=Usage(10, 20, 5, 3), cost=0.5, ttft=0.2, stream=True, latency=0.6,
    )  # fmt: skip


def test_record_and_its_attempts_are_rows(store: Database) -> None:
    settled = rescued()
    assert keep(store, [settled]) == 1
    columns = "id, agent, unit, bucket, variant, served, status, failure, fallback, first_ok, attempts, ttft, cost"
    assert store.execute(f"SELECT {columns} FROM requests") == [
        (settled.request_id, "qa_agent", "b" * 32, 1849, "finetuned", "m", 200, "", "server_error",
         0, 2, 0.2, 0.5)
    ]  # fmt: skip
    assert store.execute(
        "SELECT request_id, number, model, status, failure, seconds, input, output, cost FROM attempts ORDER BY number"
    ) == [
        (settled.request_id, 1, "ft:m", 500, "server_error", 0.1, 0, 0, 0.0),
        (settled.request_id, 2, "m", 200, "", 0.4, 10, 20, 0.5),
    ]


def test_rollups_are_sums_by_bucket_and_stage(store: Database) -> None:
    keep(store, [rescued(), rescued(), record()], "1")
    keep(store, [rescued(), record(percentage=50.0)], "2")
    columns = "percentage, bucket, variant, requests, ok, first_ok, fallbacks, cost, last_hour"
    assert store.execute(f"SELECT {columns} FROM rollups ORDER BY percentage, bucket") == [
        (25.0, 1849, "finetuned", 3, 3, 0, 3, 1.5, HOUR),
        (25.0, 7794, "baseline", 1, 1, 1, 0, 0.25, HOUR),
        (50.0, 7794, "baseline", 1, 1, 1, 0, 0.25, HOUR),
    ]


def test_only_assigned_chat_requests_enter_the_comparison(store: Database) -> None:
    keep(
        store,
        [
            record(decision=Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1), unit=""),
            record(decision=Decision(Variant.FINETUNED, Assignment.OVERRIDE, -1)),
            record(route="passthrough"),
            record(decision=Decision(Variant.FINETUNED, Assignment.FINETUNED, -1), unit=""),
        ],
    )
    assert count(store, "requests") == 4
    assert count(store, "rollups") == count(store, "exposures") == 0
    assert sum(row[0] for row in store.execute("SELECT requests FROM hours")) == 3, "but the report shows them"


def test_spent_budget_and_brake_are_no_rescues_and_shown_all_the_same(store: Database) -> None:
    reasons = (Failure.BUDGET, Failure.BRAKE, Failure.BREAKER_OPEN, Failure.RESET, None)
    keep(store, [record(decision=FINETUNED, fallback=reason) for reason in reasons])
    assert store.execute("SELECT requests, fallbacks FROM rollups") == [(5, 2)]
    assert store.execute("SELECT requests, fallbacks FROM hours") == [(5, 4)]
    assert count(store, "reasons") == 4


def test_stage_lasts_from_its_first_compared_request_to_its_last(store: Database) -> None:
    keep(store, [record(time=NOW + 5), record(time=NOW + 2), record(percentage=0.0)], "1")
    keep(store, [record(time=NOW), record(time=NOW + 3), record(time=NOW + 9, route="passthrough")], "2")
    columns = "salt, percentage, first_time, last_time, tau, frozen"
    assert store.execute(f"SELECT {columns} FROM stages ORDER BY percentage") == [
        (SALT, 0.0, NOW, NOW, None, None),
        (SALT, 25.0, NOW, NOW + 5, None, None),
    ]
    assert store.execute("SELECT slow, capped_latency, capped_cost FROM rollups WHERE percentage = 0") == [
        (0, 0.42, 0.25)
    ]


def test_copy_for_a_shadow_stands_apart_in_sums_and_money(store: Database) -> None:
    shadow = Decision(Variant.FINETUNED, Assignment.SHADOW, -1)
    keep(
        store,
        [
            record(cost=1.0),
            record(route="shadow", decision=shadow, unit="", cost=0.5),
            record(route="shadow", decision=shadow, unit="", cost=0.0, failure=Failure.SERVER_ERROR, status=500),
        ],
    )
    assert store.execute("SELECT assignment, variant, requests, ok, cost FROM hours ORDER BY assignment") == [
        ("baseline", "baseline", 1, 1, 1.0),
        ("shadow", "finetuned", 2, 1, 0.5),
    ]
    assert store.execute("SELECT assignment, kind, reason, requests FROM reasons") == [
        ("shadow", "failure", "server_error", 1)
    ]
    assert store.execute("SELECT variant, requests, cost FROM rollups") == [("baseline", 1, 1.0)]
    assert store.execute("SELECT variant FROM exposures") == store.execute("SELECT variant FROM visits")
    assert store.execute("SELECT agent, cost FROM spend ORDER BY agent") == [
        ("qa_agent", 1.0),
        ("qa_agent/shadow", 0.5),
    ]


def test_person_is_exposed_once_per_stage_and_visits_once_an_hour(store: Database) -> None:
    keep(store, [record(), record(time=NOW + 1)], "1")
    keep(store, [record(time=NOW + 2), record(time=NOW + 3600), record(percentage=50.0)], "2")
    assert store.execute("SELECT percentage, unit, variant, time FROM exposures ORDER BY percentage") == [
        (25.0, "a" * 32, "baseline", NOW),
        (50.0, "a" * 32, "baseline", NOW),
    ]
    assert store.execute("SELECT hour, unit FROM visits ORDER BY hour") == [(HOUR, "a" * 32), (HOUR + 1, "a" * 32)]


def test_failures_fallbacks_and_latencies_are_counted_by_the_hour(store: Database) -> None:
    keep(store, [rescued(), record(), record(failure=Failure.SERVER_ERROR, status=502)], "1")
    keep(store, [rescued()], "2")
    assert store.execute("SELECT variant, kind, reason, requests FROM reasons ORDER BY kind") == [
        ("baseline", "failure", "server_error", 1),
        ("finetuned", "fallback", "server_error", 2),
    ]
    assert store.execute("SELECT kind, sum(requests) FROM bins GROUP BY kind ORDER BY kind") == [
        ("latency", 4),
        ("ttft", 2),
    ]
    assert store.execute("SELECT requests, ok, first_ok, input, output, cached FROM hours ORDER BY variant") == [
        (2, 1, 1, 200, 100, 0),
        (2, 2, 0, 20, 40, 10),
    ]


def test_money_is_added_up_by_hour_agent_and_proxy(store: Database) -> None:
    keep(store, [record(), record(), record(agent="other", cost=0.0)], "1", proxy="one")
    keep(store, [record(), record(time=NOW + 3600)], "2", proxy="two")
    assert store.execute("SELECT hour, agent, proxy, cost FROM spend ORDER BY hour, proxy") == [
        (HOUR, "qa_agent", "one", 0.5),
        (HOUR, "qa_agent", "two", 0.25),
        (HOUR + 1, "qa_agent", "two", 0.25),
    ]


def test_batch_that_is_sent_again_counts_once(store: Database) -> None:
    batch = [record(), rescued()]
    assert keep(store, batch) == keep(store, batch) == 2
    assert count(store, "requests") == 2
    assert sum(row[0] for row in store.execute("SELECT requests FROM rollups")) == 2
    assert sum(row[0] for row in store.execute("SELECT cost FROM spend")) == 0.75


COLUMNS, ATTEMPTS = row_of(record())
POISON: dict[str, Row] = {
    "too few values": (COLUMNS[:5], ATTEMPTS),
    "nothing where something must be": ((None, *COLUMNS[1:]), ATTEMPTS),
    "a number beyond all columns": ((*COLUMNS[:21], 2**70, *COLUMNS[22:]), ATTEMPTS),
    "an attempt without a number": (COLUMNS, ((COLUMNS[0], None, *ATTEMPTS[0][2:]),)),
    "no text": (("\ud800", *COLUMNS[1:]), ATTEMPTS),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
@pytest.mark.parametrize("place", [0, 3, 6])
def test_poison_row_is_kept_aside_and_all_others_are_written(store: Database, poison: Row, place: int) -> None:
    rows = [row_of(record()) for _ in range(6)]
    rows.insert(place, poison)
    batch = Batch("b", rows)
    assert write(store, batch, "p", NOW) == (6, 0)
    assert write(store, batch, "p", NOW) == (6, 0), "also when it is sent again"
    assert count(store, "requests") == count(store, "attempts") == 6
    assert sum(row[0] for row in store.execute("SELECT requests FROM rollups")) == 6
    ((content, error),) = store.execute("SELECT content, error FROM rejected")
    assert content == ascii(poison)
    assert error


def test_feedback_is_written_with_the_records_and_a_poisoned_one_is_kept_aside(store: Database) -> None:
    ratings = [feedback_row(Feedback(str(number), "r", "", 1.0, "", NOW)) for number in range(5)]
    ratings.insert(2, b'["only an id"]')
    batch = Batch("b", [row_of(record())], ratings)
    assert write(store, batch, "p", NOW) == write(store, batch, "p", NOW) == (1, 5)
    assert (count(store, "requests"), count(store, "feedback"), count(store, "rejected")) == (1, 5, 1)


buckets = st.integers(0, 3)
records = st.lists(st.tuples(buckets, st.sampled_from([10.0, 25.0]), st.booleans()), max_size=12)


@given(st.lists(records, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_do_not_depend_on_how_records_are_cut_into_batches(batches: list[list[tuple[int, float, bool]]]) -> None:
    def made(bucket: int, percentage: float, ok: bool) -> Record:
        decision = Decision(Variant.BASELINE, Assignment.BASELINE, bucket)
        return record(decision=decision, percentage=percentage, failure=None if ok else Failure.RESET)

    settled = [[made(*each) for each in batch] for batch in batches]

    def sums(parts: list[list[Record]]) -> list[tuple[object, ...]]:
        with TemporaryDirectory() as folder, opened(f"sqlite:///{folder}/x.db") as database:
            for number, part in enumerate(parts):
                keep(database, part, str(number))
            return database.execute(
                "SELECT agent, salt, percentage, bucket, requests, ok FROM rollups ORDER BY percentage, bucket"
            )

    whole = [each for part in settled for each in part]
    assert sums(settled) == sums([whole])
    assert SALT in {row[1] for row in sums([whole])} or not whole

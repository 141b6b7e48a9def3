"""A record as the store's row.  Histogram bins: the promised error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.row import COLUMNS, FIRST_BIN, Row, bin_of, middle_of, unpack
from proxy.words import Assignment, Attempt, Decision, Failure, Usage, Variant
from tests.ledger.records import HOUR, record
from tests.support.records import pack, row_of


def fields(row: Row) -> dict[str, object]:
    return dict(zip((name for name, _ in COLUMNS), row[0], strict=True))


def test_row_has_a_value_for_every_column_and_none_of_the_clients_words() -> None:
    made = row_of(record())
    row = fields(made)
    assert row["hour"] == HOUR
    assert row["unit"] == "a" * 32
    assert row["first_ok"] == 1
    assert (row["ttft"], row["ttft_bin"]) == (None, None)
    assert row["attempts"] == 1
    assert made[1] == ((row["id"], 1, "up", "m", 200, "", 0.001, 0.4, 100, 50, 0.25),)
    assert {type(value) for value in (*made[0], *made[1][0])} <= {str, int, float, type(None)}


def test_first_attempt_counts_only_where_it_alone_was_needed() -> None:
    failed = Attempt("up", "ft:m", 500, Failure.SERVER_ERROR, 0.0, 0.1, None, 0.0)
    sound = record().attempts[0]
    rescued = record(fallback=Failure.SERVER_ERROR, attempts=(failed, sound))
    retried = record(attempts=(failed, sound))
    unsent = record(fallback=Failure.BREAKER_OPEN)
    lost = record(failure=Failure.SERVER_ERROR, attempts=(failed,))
    assert [fields(row_of(each))["first_ok"] for each in (rescued, retried, unsent, lost)] == [0, 0, 0, 0]


def test_request_that_a_budget_or_a_brake_kept_from_the_fine_tune_is_no_failure_of_it() -> None:
    for reason in (Failure.BUDGET, Failure.BRAKE):
        assert fields(row_of(record(fallback=reason)))["first_ok"] == 1
        retried = record(fallback=reason, attempts=record().attempts * 2)
        lost = record(fallback=reason, failure=Failure.SERVER_ERROR)
        assert [fields(row_of(each))["first_ok"] for each in (retried, lost)] == [0, 0]


@given(st.floats(FIRST_BIN, 3600.0))
def test_middle_of_a_bin_is_within_two_and_a_half_per_cent_of_what_fell_into_it(seconds: float) -> None:
    middle = middle_of(bin_of(seconds))
    assert abs(middle / seconds - 1) < 0.0251


@given(st.floats(0, 3600.0), st.floats(0, 3600.0))
def test_bins_rise_with_time(one: float, other: float) -> None:
    assert (bin_of(one) <= bin_of(other)) or one > other


def test_packed_records_are_their_rows_again_and_small() -> None:
    failed = Attempt("up", "ft:m", 500, Failure.SERVER_ERROR, 0.0, 0.1, None, 0.0)
    records = [
        record(),
        record(failure=Failure.SERVER_ERROR, attempts=(failed,), usage=None, ttft=0.2, stream=True),
        record(fallback=Failure.RESET, decision=Decision(Variant.FINETUNED, Assignment.OVERRIDE, -1)),
        *[record(latency=number / 1000) for number in range(61)],
    ]
    packed = pack(records)
    assert unpack(packed) == [row_of(each) for each in records]
    assert len(packed) < 300 * len(records)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "b"}, {"route": "passthrough"}, {"percentage": 77.0}, {"salt": "other"}, {"policy_hash": "other"},
        {"served": "n"}, {"status": 299}, {"failure": Failure.RESET}, {"fallback": Failure.BUDGET}, {"stream": True},
        {"decision": Decision(Variant.FINETUNED, Assignment.OVERRIDE, -1)},
        {"decision": Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1)},
        {"usage": Usage(1, 2, estimated=True)}, {"usage": Usage(9, 2, 5)}, {"usage": Usage(1, 2, 0, 1)},
        {"attempts": (Attempt("down", "m", 200, None, 0.0, 0.1, None, 0.0),)},
        {"attempts": (Attempt("up", "n", 200, None, 0.0, 0.1, None, 0.0),)},
        {"attempts": (Attempt("up", "m", 201, None, 0.0, 0.1, None, 0.0),)},
        {"attempts": (Attempt("up", "m", 200, Failure.RESET, 0.0, 0.1, None, 0.0),)},
        {"attempts": record().attempts * 2}, {"attempts": ()},
    ],
)  # fmt: skip
def test_records_that_differ_in_one_thing_are_not_taken_for_alike(change: dict[str, object]) -> None:
    plain, other = record(), record(**change)
    assert unpack(pack([plain, other, plain])) == [row_of(plain), row_of(other), row_of(plain)]
    assert row_of(other) != row_of(plain)

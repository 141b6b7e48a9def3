"""Feedback joins the request it is about, once, under what that request was."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.ledger.database import Database
from proxy.ledger.feedback import STEP, Joined, feedback_row, join, keep
from proxy.words import Assignment, Feedback, Variant
from tests.ledger.stores import HOUR, SALT, START, insert, make_store, opened, record

MINUTE = 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(make_store(tmp_path / "s.db")) as made:
        yield made


def about(number: int, score: float = 1.0, *, name: str = "", by_response: bool = False, at: float = 0.0) -> Feedback:
    """A rating of `record(number)`, so many seconds after the start."""
    request, response = ("", f"chatcmpl-{number}") if by_response else (f"0190-{number:08d}", "")
    return Feedback(name or f"f-{number}", request, response, score, "", START + at)


def take(database: Database, *given: Feedback, at: float = 0.0) -> Joined:
    """Keep some and join, so many seconds after the start."""
    with database.transaction():
        keep(database, [feedback_row(each) for each in given])
        return join(database, START + at)


def sums(database: Database) -> list[tuple[object, ...]]:
    return database.execute("SELECT percentage, bucket, variant, requests, rated, score FROM rollups ORDER BY 1, 2, 3")


def hours(database: Database) -> list[tuple[object, ...]]:
    return database.execute("SELECT hour, assignment, variant, requests, rated, score FROM hours ORDER BY 1, 2, 3")


def score_of(database: Database, number: int) -> object:
    return database.execute("SELECT score FROM requests WHERE id = ?", (f"0190-{number:08d}",))[0][0]


@pytest.mark.parametrize("by_response", [False, True])
def test_feedback_is_added_to_its_request_stage_and_hour(database: Database, by_response: bool) -> None:
    insert(database, [record(1), record(2, variant=Variant.BASELINE)])
    assert take(database, about(1, 0.25, by_response=by_response)) == (1, 0)
    assert sums(database) == [(10.0, 5, "finetuned", 1, 1, 0.25), (10.0, 5000, "baseline", 1, 0, 0.0)]
    hour = START // HOUR
    assert hours(database) == [(hour, "baseline", "baseline", 1, 0, 0.0), (hour, "finetuned", "finetuned", 1, 1, 0.25)]
    assert (score_of(database, 1), score_of(database, 2)) == (0.25, None)
    assert database.execute("SELECT id, joined FROM feedback") == [("f-1", 1)]


def test_late_feedback_counts_where_its_request_was_though_the_user_has_moved_on(database: Database) -> None:
    """The user was in the baseline at 10 %, and is fine-tuned at 60 %: other stage, variant, hour, salt."""
    before = record(1, "u", variant=Variant.BASELINE)
    after = record(2, "u", bucket=5000, percentage=60.0, time=START + 30 * HOUR)
    again = record(3, "u", bucket=77, percentage=60.0, salt="qa_agent/ft:new", time=START + 31 * HOUR)
    insert(database, [before, after, again])
    assert take(database, about(1, at=32 * HOUR), at=32 * HOUR) == (1, 0)
    assert [row[:3] for row in sums(database) if row[4]] == [(10.0, 5000, "baseline")]
    assert [row[:3] for row in hours(database) if row[4]] == [(START // HOUR, "baseline", "baseline")]
    assert database.execute("SELECT DISTINCT salt FROM rollups WHERE rated > 0") == [(SALT,)]


def test_same_id_counts_once_and_the_first_one_wins(database: Database) -> None:
    insert(database, [record(1), record(2)])
    assert take(database, about(1, 0.5, name="x"), about(2, 1.0, name="x")) == (1, 0)
    assert take(database, about(2, 1.0, name="x")) == (0, 0)
    assert (score_of(database, 1), score_of(database, 2)) == (0.5, None)


def test_second_rating_of_a_request_counts_too_and_the_later_score_stays(database: Database) -> None:
    insert(database, [record(1)])
    first, second, third = (about(1, score, name=f"{at}", at=at) for at, score in ((1, 0.0), (2, 1.0), (3, 0.5)))
    assert take(database, second, first) == (2, 0)
    assert score_of(database, 1) == 1.0
    assert take(database, third) == (1, 0)
    assert score_of(database, 1) == 0.5
    assert sums(database) == [(10.0, 5, "finetuned", 1, 3, 1.5)]


def test_record_that_arrives_after_its_feedback_is_joined(database: Database) -> None:
    assert take(database, about(1), at=1) == (0, 0)
    insert(database, [record(1)])
    assert take(database, at=2) == (1, 0)
    assert sums(database) == [(10.0, 5, "finetuned", 1, 1, 1.0)]


def test_unknown_id_is_waited_for_59_minutes_and_dropped_after_61(database: Database) -> None:
    known_later, never = about(1, at=0), about(2, at=0)
    assert take(database, known_later, never) == (0, 0)
    assert take(database, at=59 * MINUTE) == (0, 0)
    insert(database, [record(1)])
    assert take(database, at=59 * MINUTE) == (1, 0)
    assert take(database, at=61 * MINUTE) == (0, 1)
    assert take(database, at=62 * MINUTE) == (0, 0)
    assert database.execute("SELECT id FROM feedback") == [("f-1",)]


def test_known_one_that_nobody_looked_at_for_hours_is_joined_not_dropped(database: Database) -> None:
    insert(database, [record(1)])
    assert take(database, about(1, by_response=True), at=5 * HOUR) == (1, 0)


def test_only_compared_requests_are_added_to_their_stage(database: Database) -> None:
    """An override and a missing user are in the hours; a pass-through call's score is its own."""
    override = record(1, variant=Variant.BASELINE, assignment=Assignment.OVERRIDE, bucket=-1)
    nobody = record(2, variant=Variant.FINETUNED, bucket=-1)  # everyone is fine-tuned
    compared = record(3)
    embedding = record(4, route="passthrough")
    insert(database, [override, nobody, compared, embedding])
    assert take(database, *map(about, (1, 2, 3, 4))) == (4, 0)
    assert sums(database) == [(10.0, 5, "finetuned", 1, 1, 1.0)]
    assert [(row[1], row[4]) for row in hours(database)] == [("finetuned", 2), ("override", 1)]
    assert score_of(database, 4) == 1.0


def test_response_id_that_an_upstream_repeats_means_its_latest_answer(database: Database) -> None:
    insert(database, [record(1, response_id="same"), record(2, response_id="same"), record(3, response_id="")])
    with database.transaction():
        keep(database, [feedback_row(Feedback("f", "", "same", 0.5, "", START))])
        assert join(database, START) == (1, 0)
    assert [score_of(database, number) for number in (1, 2, 3)] == [None, 0.5, None]


def test_flood_of_unknown_ids_keeps_nobody_waiting(database: Database) -> None:
    """Each call is bounded, and what can be joined is found among what cannot."""
    flood = [about(number, at=number / 1000) for number in range(2, 2 + 3 * STEP)]
    insert(database, [record(1)])
    given = take(database, about(1, at=1.5), *flood).joined
    for _ in range(60):
        given += take(database, at=2).joined
    assert given == 1
    dropped = [take(database, at=2 * HOUR).unknown for _ in range(60)]
    assert max(dropped) <= STEP
    assert sum(dropped) == len(flood)


def test_thousands_at_once_are_joined_in_steps(database: Database) -> None:
    many = 2 * STEP + 5
    insert(database, [record(number) for number in range(many)])
    taken = [take(database, *map(about, range(many)))]
    while taken[-1].joined:
        assert taken[-1].joined <= STEP
        taken.append(take(database))
    assert sum(each.joined for each in taken) == many
    assert sums(database) == [(10.0, 5, "finetuned", many, many, float(many))]


ids = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("rate"), ids, st.integers(0, 8), st.booleans()),
        st.tuples(st.just("record"), ids, st.just(0), st.just(False)),
        st.tuples(st.just("repeat"), st.just(0), st.just(0), st.just(False)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_whatever_comes_in_whatever_order_and_again_counts_exactly_once(given_steps: list[tuple[object, ...]]) -> None:
    """Sums are those of each known request's distinct ratings, the first of each id."""
    with TemporaryDirectory() as folder, opened(make_store(Path(folder, "s.db"))) as database:
        batches: list[list[Feedback]] = []
        first: dict[str, Feedback] = {}
        recorded: set[int] = set()
        for number, (what, which, score, by_response) in enumerate(given_steps):
            assert isinstance(which, int)
            assert isinstance(score, int)
            if what == "record":
                if which not in recorded:
                    insert(database, [record(which)])
                recorded.add(which)
            elif what == "rate":
                rating = about(which, score / 8, name=f"f-{number % 7}", by_response=bool(by_response))
                batches.append([rating])
                first.setdefault(rating.id, rating)
                take(database, rating)
            else:  # the answer to a commit was lost: everything is sent again
                for batch in batches:
                    take(database, *batch)
        take(database)
        known = {f"0190-{each:08d}" for each in recorded} | {f"chatcmpl-{each}" for each in recorded}
        counted = [each.score for each in first.values() if (each.request_id or each.response_id) in known]
        assert database.execute("SELECT coalesce(sum(rated), 0), coalesce(sum(score), 0) FROM rollups") == [
            (len(counted), sum(counted))
        ]
        assert database.execute("SELECT coalesce(sum(rated), 0), coalesce(sum(score), 0) FROM hours") == [
            (len(counted), sum(counted))
        ]

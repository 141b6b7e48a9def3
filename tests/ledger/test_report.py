"""The report's numbers, against numbers made by hand and by brute force."""

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.ledger.database import Database
from proxy.ledger.feedback import feedback_row, join, keep
from proxy.ledger.report import Group, Report, Window, quantile, read_report, window_of
from proxy.ledger.row import bin_of
from proxy.words import Assignment, Failure, Feedback, Record, Usage, Variant
from tests.ledger.stores import HOUR, START, attempt, insert, make_store, merge, opened, record

FIRST = int(START // HOUR)
DAY = Window(FIRST, FIRST + 24)
FAILED = (attempt(Failure.SERVER_ERROR),)
RESCUED: dict[str, Any] = {"fallback": Failure.SERVER_ERROR, "attempts": (*FAILED, attempt())}
RETRIED: dict[str, Any] = {"attempts": (*FAILED, attempt())}
LOST: dict[str, Any] = {"failure": Failure.SERVER_ERROR, "attempts": FAILED}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(make_store(tmp_path / "s.db")) as made:
        yield made


def the_group(report: Report, assignment: Assignment) -> Group:
    (agent,) = report.agents
    group = agent.group(assignment)
    assert group is not None
    return group


def test_intention_to_treat_counts_who_was_rescued_and_first_attempt_does_not(database: Database) -> None:
    """Fine-tuned: 10 requests, 7 by itself at once, 1 after a retry, 1 rescued, 1 lost: 90 % and 70 %.

    Baseline: 4 requests, 1 retried, 1 lost: 75 % and 50 %.
    """
    finetuned = [record(number, f"u{number % 3}") for number in range(7)]
    finetuned += [record(7, "u0", **RETRIED), record(8, "u0", **RESCUED), record(9, "u0", **LOST)]
    baseline = [record(10 + number, "v", variant=Variant.BASELINE) for number in range(2)]
    baseline += [
        record(12, "v", variant=Variant.BASELINE, **RETRIED),
        record(13, "w", variant=Variant.BASELINE, **LOST),
    ]
    insert(database, finetuned + baseline)
    report = read_report(database, DAY)
    treated, control = the_group(report, Assignment.FINETUNED), the_group(report, Assignment.BASELINE)
    assert (treated.requests, treated.users, treated.success, treated.first_attempt) == (10, 3, 0.9, 0.7)
    assert (control.requests, control.users, control.success, control.first_attempt) == (4, 2, 0.75, 0.5)
    assert (treated.fallbacks, treated.failures) == ({"server_error": 1}, {"server_error": 1})
    assert (control.fallbacks, control.failures) == ({}, {"server_error": 1})


def test_override_and_missing_user_stand_apart(database: Database) -> None:
    kinds = [
        (Variant.FINETUNED, Assignment.FINETUNED),
        (Variant.BASELINE, Assignment.BASELINE),
        (Variant.BASELINE, Assignment.UNASSIGNED),
        (Variant.FINETUNED, Assignment.UNASSIGNED),  # identity.on_missing_user: random
        (Variant.FINETUNED, Assignment.OVERRIDE),
        (Variant.BASELINE, Assignment.OVERRIDE),
        (Variant.FINETUNED, Assignment.SHADOW),
    ]
    insert(database, [record(n, variant=v, assignment=a, bucket=-1) for n, (v, a) in enumerate(kinds)])
    (agent,) = read_report(database, DAY).agents
    assert {(group.variant, group.assignment) for group in agent.groups} == set(kinds)
    assert [group.requests for group in agent.groups] == [1] * 7
    assert [group.assignment for group in agent.groups][:2] == ["finetuned", "baseline"]


def test_money_tokens_and_ratings_are_summed(database: Database) -> None:
    used = [Usage(100, 20, 30, 5), Usage(50, 10, estimated=True), None]
    insert(database, [record(n, "u", usage=usage, cost=0.25 * n) for n, usage in enumerate(used)])
    with database.transaction():
        ratings = [Feedback(f"f{n}", f"0190-{n:08d}", "", score, "", START) for n, score in enumerate((1.0, 0.5))]
        keep(database, [feedback_row(each) for each in ratings])
        join(database, START)
    group = the_group(read_report(database, DAY), Assignment.FINETUNED)
    assert (group.input, group.output, group.cached, group.reasoning) == (150, 30, 30, 5)
    assert (group.cost, group.cost_per_request, group.estimated_share) == (0.75, 0.25, 1 / 3)
    assert (group.rated, group.rating) == (2, 0.75)


def test_only_hours_of_the_window_and_agents_asked_for_are_read(database: Database) -> None:
    hours = (-1, 0, 23, 24)
    insert(database, [record(n, f"u{n}", time=START + hour * HOUR) for n, hour in enumerate(hours)])
    insert(database, [record(9, "u", agent="legal_agent"), record(10, "u", agent="other")])
    assert the_group(read_report(database, DAY, ["qa_agent"]), Assignment.FINETUNED).users == 2
    assert [agent.agent for agent in read_report(database, DAY).agents] == ["legal_agent", "other", "qa_agent"]
    assert [each.agent for each in read_report(database, DAY, ["qa_agent", "other"]).agents] == ["other", "qa_agent"]
    assert read_report(database, DAY, ["nobody"]) == Report(DAY, ())


def test_user_who_comes_every_hour_is_one_and_who_changes_variant_is_in_both(database: Database) -> None:
    stayed = [record(n, "u", time=START + n * HOUR) for n in range(5)]
    moved = [record(10, "m", variant=Variant.BASELINE), record(11, "m", time=START + 2 * HOUR)]
    insert(database, [*stayed, *moved, record(12, "")])
    report = read_report(database, DAY)
    assert the_group(report, Assignment.FINETUNED).users == 2
    assert the_group(report, Assignment.BASELINE).users == 1


def test_passed_through_requests_are_not_reported(database: Database) -> None:
    insert(database, [record(1, route="passthrough"), record(2, route="feedback", agent="other")])
    assert read_report(database, DAY).agents == ()


@pytest.mark.parametrize(
    ("since", "until", "window"),
    [
        (START, START + HOUR, (FIRST, FIRST + 1)),
        (START + 1, START + HOUR + 1, (FIRST, FIRST + 2)),
        (START + HOUR - 0.001, START + HOUR + 0.001, (FIRST, FIRST + 2)),
    ],
)
def test_edges_are_rounded_outwards(since: float, until: float, window: tuple[int, int]) -> None:
    assert window_of(since, until) == window


# Below a millisecond there is one bin: nobody asks a language model for less.
seconds = st.floats(0.001, 1000.0)


@given(st.lists(seconds, min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99, 0.001, 1.0]))
def test_quantile_is_within_two_and_a_half_per_cent_of_the_nearest_rank(values: list[float], share: float) -> None:
    bins: dict[int, int] = {}
    for value in values:
        bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
    truth = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert quantile(bins, share) == pytest.approx(truth, rel=0.025)


def test_quantile_of_nothing_is_none() -> None:
    assert quantile({}, 0.5) is None


def any_record() -> st.SearchStrategy[Record]:
    def made(values: tuple[Any, ...]) -> Record:
        number, user, agent, variant, assignment, hour, fate, latency, ttft, usage, cost = values
        return record(
            number, user, agent=agent, variant=variant, assignment=assignment or Assignment(variant.value),
            time=START + hour * HOUR, latency=latency, ttft=ttft, usage=usage, cost=cost, **fate,
        )  # fmt: skip

    return st.tuples(
        st.integers(0, 10**8 - 1),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from(["qa_agent", "legal_agent"]),
        st.sampled_from(Variant),
        st.sampled_from([None, Assignment.UNASSIGNED, Assignment.OVERRIDE]),
        st.integers(-1, 24),
        st.sampled_from([{}, RESCUED, RETRIED, LOST]),
        seconds,
        st.sampled_from([-1.0, 0.1, 0.2, 5.0]),
        st.sampled_from([None, Usage(10, 5), Usage(3, 2, 1, 1, estimated=True)]),
        st.sampled_from([0.0, 0.25, 0.5]),
    ).map(made)


@settings(max_examples=20, deadline=None)
@given(st.lists(any_record(), max_size=30, unique_by=lambda each: each.request_id), st.randoms(use_true_random=False))
def test_two_stores_added_up_report_what_one_store_of_everything_does(records: list[Record], chance: Any) -> None:
    """Additivity: of proxies, and of databases."""
    parts: tuple[list[Record], list[Record]] = ([], [])
    for each in records:
        parts[chance.randrange(2)].append(each)
    with TemporaryDirectory() as folder:
        names = [make_store(Path(folder, name)) for name in ("first.db", "second.db", "all.db")]
        with opened(names[0]) as first, opened(names[1]) as second, opened(names[2]) as everything:
            insert(first, parts[0])
            insert(second, parts[1])
            insert(everything, records)
            merge(first, second)
            assert read_report(first, DAY) == read_report(everything, DAY)
            _hold_to_brute_force(read_report(everything, DAY), records)


def _hold_to_brute_force(report: Report, records: list[Record]) -> None:
    expected: dict[tuple[str, str, str], list[Record]] = {}
    for each in records:
        if START <= each.time < START + 24 * HOUR:
            key = each.agent, each.decision.assignment.value, each.decision.variant.value
            expected.setdefault(key, []).append(each)
    found = {(agent.agent, group.assignment, group.variant): group for agent in report.agents for group in agent.groups}
    assert found.keys() == expected.keys()
    for key, group in found.items():
        mine = expected[key]
        assert group.users == len({each.unit for each in mine if each.unit})
        assert group.requests == len(mine)
        assert group.ok == sum(each.failure is None for each in mine)
        assert group.first_ok == sum(each.failure is None and len(each.attempts) == 1 for each in mine)
        assert group.streams == sum(group.ttfts.values()) == sum(each.ttft >= 0 for each in mine)
        assert sum(group.latencies.values()) == len(mine)
        assert sum(group.fallbacks.values()) == sum(each.fallback is not None for each in mine)
        assert sum(group.failures.values()) == sum(each.failure is not None for each in mine)
        assert group.cost == sum(each.cost for each in mine)
        assert group.input == sum(each.usage.prompt for each in mine if each.usage)

"""What is found of an agent besides its verdict."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from proxy.experiment.findings import Arm, Arms, Course, find, read_course
from proxy.policy.config_rollout import RolloutConfig
from proxy.words import Failure, Variant
from tests.experiment.verdicts import HOUR, NOW, SINCE, course, evidence, finding, verdict
from tests.ledger.stores import SALT, attempt, insert, make_store, opened, record

# Of one hour: fine-tuned requests that stayed and were answered at once, later, or not; and rescued, or not.
HOURS = st.lists(st.tuples(*[st.integers(0, 50)] * 5, st.integers(0, 90), st.integers(0, 9)), min_size=1, max_size=5)


@given(HOURS)
def test_served_view_moves_what_left_to_the_baseline_and_loses_nothing(hours: list[tuple[int, ...]]) -> None:
    made = tuple(
        Course(int(NOW // HOUR) - place, Arm(at_once + bad + rescued + lost, at_once + rescued), Arm(ok + not_ok, ok),
               at_once, rescued + lost)
        for place, (at_once, _, bad, rescued, lost, ok, not_ok) in enumerate(hours)
    )  # fmt: skip
    found = finding(verdict(), course=made)
    assigned, served = found.assigned, found.served
    for column in (0, 1):
        assert sum(arm[column] for arm in assigned) == sum(arm[column] for arm in served)
    assert served.finetuned == Arm(sum(h[0] + h[2] for h in hours), sum(h[0] for h in hours))
    assert served.baseline.ok == sum(h[3] + h[5] for h in hours)


def test_served_view_is_exact_with_retries_where_every_rescue_succeeded() -> None:
    hour = Course(int(NOW // HOUR), Arm(100, 97), Arm(0, 0), 90, 5)  # two more were answered at the second try
    served = finding(verdict(), course=(hour,)).served
    assert served.finetuned[:2] == (95, 92)
    assert served.baseline[:2] == (5, 5)


def test_stage_is_told_from_its_hour() -> None:
    found = finding(verdict())
    assert found.stage_hours[0].hour == int(SINCE // HOUR)
    assert found.assigned.finetuned.requests == 72 * 10
    assert found.fallback_rate == 0.05


def test_agent_without_requests_has_no_numbers() -> None:
    found = finding(verdict(), evidence=evidence(since=None), course=())
    assert found.assigned == Arms(Arm(0, 0), Arm(0, 0))
    assert found.assigned.finetuned.success is None
    assert found.fallback_rate is None


def test_stages_people_and_hours_are_read_from_the_store(tmp_path: Path) -> None:
    lost = (attempt(Failure.SERVER_ERROR), attempt())
    with opened(make_store(tmp_path / "s.db")) as database:
        insert(
            database,
            [
                record(1, "u", time=NOW - HOUR, cost=0.5),
                record(2, "u", time=NOW - 9, fallback=Failure.SERVER_ERROR, attempts=lost),
                record(3, "v", time=NOW - 9, variant=Variant.BASELINE),
                record(4, "w", time=NOW - 9, agent="legal_agent"),
                record(5, "old", time=NOW - 40 * 24 * HOUR),
            ],
        )
        statement = "INSERT INTO exposures (agent, salt, percentage, unit, variant, time) VALUES (?, ?, ?, ?, ?, 0)"
        for unit, variant in (("u", "finetuned"), ("x", "finetuned"), ("v", "baseline")):
            database.execute(statement, ("qa_agent", SALT, 10.0, unit, variant))
        database.execute(
            "INSERT INTO stages (agent, salt, percentage, first_time, last_time) VALUES (?, ?, ?, ?, ?)",
            ("qa_agent", SALT, 10.0, NOW - HOUR, NOW - 9),
        )
        hours = read_course(database, NOW)
        held = evidence(salt=SALT, since=NOW - HOUR)
        found = find(database, held, verdict(), RolloutConfig(), hours["qa_agent"])
    now = int(NOW // HOUR)
    assert hours["qa_agent"] == (Course(now - 1, Arm(2, 2, 0.5), Arm(1, 1), 1, 1),)
    assert [(line.percentage, line.since, line.users) for line in found.stages] == [
        (5.0, None, (0, 0)),
        (10.0, NOW - HOUR, (2, 1)),
    ]
    assert found.stages[1].arms.finetuned.requests == 600
    assert found.course == hours["qa_agent"]


def test_course_begins_with_the_ramp(tmp_path: Path) -> None:
    with opened(make_store(tmp_path / "s.db")) as database:
        assert find(database, evidence(), verdict(), RolloutConfig(), course()).course == ()

"""People, requests and time that a stage wants, and a stage without an end."""

import pytest

from proxy.experiment.evidence import BucketSums, Stage
from proxy.experiment.stage import early, observing, overdue
from proxy.experiment.verdict import Because, GateVerdict, Outcome, Reason
from proxy.policy.config_rollout import RolloutConfig, StepConfig
from tests.support.ramps import DAY, NOW, evidence

HOUR = 3600.0
STEP = StepConfig(percent=25.0)
REQUESTS = Stage(25.0, (BucketSums(1, True, 600, 600, 600, 0, 0, 1.0, 0.0, 0, 0.0),
                        BucketSums(9000, False, 400, 400, 400, 0, 0, 1.0, 0.0, 0, 0.0)))  # fmt: skip


def test_stage_with_its_people_requests_and_time_wants_nothing() -> None:
    assert early(evidence(REQUESTS, users=(100, 100), since=NOW - DAY), STEP) == []


def test_shortages_are_one_reason_that_lasts_as_long_as_the_slowest() -> None:
    seen = evidence(REQUESTS, users=(60, 90), since=NOW - 2 * DAY)
    step = StepConfig.model_validate({"percent": 25, "min": {"users": 100, "requests": 1500}})
    (found,) = early(seen, step)
    assert found.detail == "60 of 100 fine-tuned users, 90 of 100 baseline users, 1000 of 1500 requests"
    assert found.eta == pytest.approx(40 / 60 * 2 * DAY)


def test_requests_of_earlier_stages_do_not_count() -> None:
    (found,) = early(evidence(REQUESTS, Stage(50.0, ()), users=(100, 100)), StepConfig(percent=50.0))
    assert (found.detail, found.eta) == ("0 of 1000 requests", None)


def test_soak_is_what_is_left_of_it() -> None:
    (found,) = early(evidence(REQUESTS, users=(100, 100), since=NOW - 20 * HOUR), STEP)
    assert found == (Reason.SOAK, "", 4 * HOUR, "20.0 h of 24.0 h")


def test_observing_is_what_is_left_of_it_and_ends() -> None:
    (found,) = observing(evidence(since=NOW - 20 * HOUR), DAY, [])
    assert found == (Reason.OBSERVING, "", 4 * HOUR, "20.0 h of 24.0 h")
    assert observing(evidence(since=NOW - DAY), DAY, []) == []


def test_what_has_failed_with_the_same_salt_does_not_start_by_itself() -> None:
    (found,) = observing(evidence(since=NOW - DAY), DAY, [Because(Reason.GUARDRAIL_FAIL, "cost")])
    assert found.reason is Reason.NOT_STARTED
    assert "failed already: cost" in found.detail


COST = Because(Reason.INCONCLUSIVE, "cost", 9.0, "between a and b")
SUCCESS = Because(Reason.INCONCLUSIVE, "success", 9.0, "between c and d")
FEW = Because(Reason.INSUFFICIENT_USERS, "feedback")
GATES = [
    GateVerdict(each.metric, kind, Outcome.HOLD, each, "points", None, None, None, None, None, 0.0, (0, 0))
    for each, kind in ((COST, "signal"), (SUCCESS, "guardrail"), (FEW, "guardrail"))
]
ROLLBACK = RolloutConfig.model_validate({"on_inconclusive": {"action": "rollback"}})


def test_stage_that_is_not_overdue_keeps_its_reasons() -> None:
    assert overdue(evidence(), ROLLBACK, GATES, [COST, SUCCESS]) == ([COST, SUCCESS], False)


def test_overdue_stage_says_for_how_long_nothing_was_settled() -> None:
    found, fails = overdue(evidence(since=NOW - 14 * DAY), RolloutConfig(), GATES, [FEW, COST])
    assert not fails
    assert [each.detail for each in found] == ["", "between a and b; not settled in 336.0 h"]


def test_overdue_guardrail_comes_first_where_it_rolls_back() -> None:
    found, fails = overdue(evidence(since=NOW - 14 * DAY), ROLLBACK, GATES, [FEW, COST, SUCCESS])
    assert fails
    assert list(map(str, found)) == ["INCONCLUSIVE(success)", "INSUFFICIENT_USERS(feedback)", "INCONCLUSIVE(cost)"]


def test_overdue_signals_and_shortages_roll_nothing_back() -> None:
    assert overdue(evidence(since=NOW - 14 * DAY), ROLLBACK, GATES, [FEW, COST])[1] is False

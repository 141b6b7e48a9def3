"""What a verdict leads to: a table of situations and what is done."""

from typing import Any

import pytest

from proxy.experiment.actions import Action, Plan, objections, plan_of, since_the_last_move, wish_of
from proxy.experiment.evidence import Hold
from proxy.experiment.verdict import Because, Outcome, Reason
from tests.experiment.looks import DAY, NOW, evidence, rollout, verdict

FAIL, PASS, HOLD = Outcome.FAIL, Outcome.PASS, Outcome.HOLD
FAILED, PAUSED = Hold("failed", "it failed", NOW), Hold("paused", "a holiday", NOW)


def planned(outcome: Outcome, *reasons: Reason, section: dict[str, Any] | None = None, **known: Any) -> Plan:
    """What the controller does."""
    following = known.pop("following", 25.0)
    return plan_of(verdict(outcome, *reasons, following=following), evidence(**known), rollout(**(section or {})))


def test_pass_goes_to_the_next_step() -> None:
    assert planned(PASS) == Plan(Action.ADVANCE, 25.0, ())


def test_pass_with_no_step_above_stays() -> None:
    assert planned(PASS, following=None)[:2] == (Action.HOLD, None)


@pytest.mark.parametrize(
    "reason", [Reason.SOAK, Reason.APPROVAL, Reason.STALE, Reason.SRM, Reason.NOT_STARTED, Reason.COMPLETE]
)
def test_what_waits_stays_and_latches_nothing(reason: Reason) -> None:
    assert planned(HOLD, reason) == Plan(Action.HOLD, None, (Because(reason),))


@pytest.mark.parametrize("reason", [Reason.GUARDRAIL_FAIL, Reason.BRAKE])
def test_failure_is_rolled_back_and_latched(reason: Reason) -> None:
    assert planned(FAIL, reason) == Plan(Action.ROLLBACK, 0.0, (Because(reason),), "failed")


def test_failure_with_on_fail_pause_stays_and_is_latched() -> None:
    plan = planned(FAIL, Reason.GUARDRAIL_FAIL, section={"on_fail": "pause"})
    assert (plan.action, plan.target, plan.hold) == (Action.FAIL, None, "failed")
    again = planned(FAIL, Reason.GUARDRAIL_FAIL, section={"on_fail": "pause"}, hold=FAILED)
    assert (again.action, again.hold) == (Action.HOLD, None)


def test_latched_failure_at_zero_waits_for_a_person_even_where_the_gates_pass() -> None:
    plan = planned(PASS, percentage=0.0, hold=FAILED)
    assert (plan.action, plan.target) == (Action.HOLD, None)
    assert plan.because[0] == Because(Reason.FAILED, detail="it failed")


def test_latched_failure_above_zero_is_rolled_back_again() -> None:
    plan = planned(HOLD, Reason.FAILED, hold=FAILED)
    assert (plan.action, plan.target, plan.hold) == (Action.ROLLBACK, 0.0, None)


@pytest.mark.parametrize(
    ("outcome", "reasons"), [(PASS, ()), (FAIL, (Reason.GUARDRAIL_FAIL,)), (FAIL, (Reason.BRAKE,))]
)
def test_paused_agent_is_left_alone(outcome: Outcome, reasons: tuple[Reason, ...]) -> None:
    plan = planned(outcome, *reasons, hold=PAUSED)
    assert (plan.action, plan.target, plan.hold) == (Action.HOLD, None, None)
    assert plan.because[0].reason is Reason.PAUSED


@pytest.mark.parametrize("on_fail", ["rollback", "pause"])
def test_stage_that_is_inconclusive_for_too_long_is_rolled_back_whatever_failures_do(on_fail: str) -> None:
    plan = planned(FAIL, Reason.INCONCLUSIVE, section={"on_fail": on_fail})
    assert (plan.action, plan.target, plan.hold) == (Action.ROLLBACK, 0.0, "failed")


# --- a person's wish ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [Reason.NOT_STARTED, Reason.APPROVAL])
def test_asking_for_a_step_is_the_approval(reason: Reason) -> None:
    assert objections(verdict(HOLD, reason), evidence()) == ()


@pytest.mark.parametrize("reason", [Reason.SOAK, Reason.INCONCLUSIVE, Reason.OBSERVING, Reason.STALE, Reason.FAILED])
def test_gates_stand_against_more_and_never_against_less(reason: Reason) -> None:
    seen = verdict(HOLD, reason)
    assert wish_of(seen, evidence(), 15.0, "").because == (Because(reason),)
    assert wish_of(seen, evidence(), 5.0, "").because == ()


def test_hold_stands_against_more_where_the_verdict_does_not_know_of_it() -> None:
    assert objections(verdict(PASS), evidence(hold=PAUSED))[0].reason is Reason.PAUSED


def test_forced_failing_agent_is_paused_and_forced_waiting_one_is_not() -> None:
    forced = wish_of(verdict(FAIL, Reason.GUARDRAIL_FAIL), evidence(), 25.0, "I know")
    assert (forced.action, forced.hold, forced.reason) == (Action.ADVANCE, "paused", "forced: I know")
    assert wish_of(verdict(HOLD, Reason.SOAK), evidence(), 30.0, "I know")[:2] == (Action.SET, 30.0)
    assert wish_of(verdict(HOLD, Reason.SOAK), evidence(), 30.0, "I know").hold is None


def test_stage_begins_at_its_first_request_or_at_the_decision_whichever_is_later() -> None:
    seen = evidence(since=NOW - DAY)
    assert since_the_last_move(seen, NOW - 60).since == NOW - 60
    assert since_the_last_move(seen, NOW - 2 * DAY).since == NOW - DAY
    assert since_the_last_move(seen, None).since == NOW - DAY
    assert since_the_last_move(evidence(since=None), NOW).since is None

"""What a person orders, on a real store: all of it or nothing, and what is left out."""

import time
from pathlib import Path

import pytest

from proxy.experiment import memory, orders
from proxy.experiment.actions import Action
from proxy.experiment.controller import Done
from proxy.experiment.orders import Refused
from proxy.ledger import brakes
from proxy.words import Brake
from tests.experiment.ramps import controlling, percentage_of, write_ramp

BOTH = ["qa_agent", "legal_agent"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ramp with `qa_agent` at 50 % that nobody has asked yet, and `legal_agent` at 0 %."""
    return write_ramp(tmp_path)


def agents(done: Done) -> list[str]:
    return [step.look.agent for step in done.steps]


def test_one_objection_keeps_all_where_they_are(path: Path) -> None:
    with controlling(path) as controller:
        with pytest.raises(Refused, match="qa_agent: ") as refused:
            orders.go_to(controller, controller.look(BOTH), 60)
        assert [bool(step.plan.because) for step in refused.value.steps] == [True, False]
        assert memory.history(controller.database, "legal_agent") == []
    assert (percentage_of(path), percentage_of(path, "legal_agent")) == (50, 0)


def test_less_for_one_and_a_start_of_the_other_need_no_gate(path: Path) -> None:
    with controlling(path) as controller:
        done = orders.go_to(controller, controller.look(BOTH), 20)
    assert agents(done) == BOTH
    assert (percentage_of(path), percentage_of(path, "legal_agent")) == (20, 20)


def test_agent_that_is_there_already_is_left_out(path: Path) -> None:
    with controlling(path) as controller:
        assert agents(orders.go_to(controller, controller.look(BOTH), 50)) == ["legal_agent"]


def test_rollback_holds_also_what_is_at_zero(path: Path) -> None:
    with controlling(path) as controller:
        orders.roll_back(controller, controller.look(BOTH), "both")
        holds = [look.evidence.hold for look in controller.look(BOTH)]
    assert [hold and (hold.kind, hold.reason) for hold in holds] == [("failed", "both")] * 2
    assert percentage_of(path) == 0


def test_pause_does_not_hide_a_failure_and_resume_does_not_release_it(path: Path) -> None:
    with controlling(path) as controller:
        orders.roll_back(controller, controller.look(["qa_agent"]), "broken")
        with pytest.raises(Refused, match="qa_agent: FAILED"):
            orders.pause(controller, controller.look(BOTH), "a holiday")
        assert agents(orders.resume(controller, controller.look(BOTH))) == []
        assert [look.evidence.hold is None for look in controller.look(BOTH)] == [False, True]


def test_clear_leaves_a_pause_and_takes_the_brake_off(path: Path) -> None:
    with controlling(path) as controller:
        orders.pause(controller, controller.look(BOTH), "a holiday")
        brakes.trip(controller.database, Brake("b-1", "qa_agent", time.time() - 1, "{}"))
        done = orders.clear(controller, controller.look(BOTH))
        (look, _) = controller.look(BOTH)
    assert [(step.look.agent, step.plan.action) for step in done.steps] == [("qa_agent", Action.CLEAR)]
    assert look.evidence.brake is None
    assert look.evidence.hold is not None
    assert look.evidence.hold.kind == "paused"


def test_resume_and_clear_are_written_down_with_their_actor(path: Path) -> None:
    with controlling(path) as controller:
        orders.pause(controller, controller.look(["qa_agent"]), "a holiday")
        orders.resume(controller, controller.look(BOTH))
        past = memory.history(controller.database, "qa_agent")[::-1]
    assert [(each.action, each.actor, list(each.reasons)) for each in past] == [
        ("pause", "ann@host", ["a holiday"]),
        ("resume", "ann@host", []),
    ]

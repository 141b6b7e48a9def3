"""The controller on real stores and files: what moves, what is kept of it, and what a crash leaves."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.experiment import memory, orders
from proxy.experiment.actions import Action
from proxy.experiment.controller import Done
from proxy.experiment.memory import Decision
from proxy.ledger import brakes
from proxy.policy.edit import EditError
from proxy.words import Brake
from tests.experiment.ramps import DAY, HOUR, SALT, controlling, fill, percentage_of, write_ramp
from tests.ledger.records import opened

QA = ["qa_agent"]


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder / 's.db'}"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A ramp at 50 % whose gate passes."""
    with opened(store_of(tmp_path)) as database:
        fill(database, 50, begin=time.time() - 2 * HOUR)
    return write_ramp(tmp_path)


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    """A ramp at 50 % whose fine-tune fails most of its users."""
    with opened(store_of(tmp_path)) as database:
        fill(database, 50, failing=0.7, begin=time.time() - 2 * HOUR)
    return write_ramp(tmp_path)


def run(path: Path, store: str = "", **changes: Any) -> Done:
    with controlling(path, store, **changes) as controller:
        return controller.evaluate(QA)


def action(done: Done) -> tuple[Action, float]:
    (step,) = done.steps
    return step.plan.action, step.target


def reasons(done: Done) -> list[str]:
    return [str(each) for each in done.steps[0].plan.because]


def past(path: Path, agent: str = "qa_agent") -> list[Decision]:
    """The history, the earliest first."""
    with controlling(path) as controller:
        return memory.history(controller.database, agent)[::-1]


def trip(path: Path) -> None:
    with controlling(path) as controller:
        brakes.trip(controller.database, Brake("b-1", "qa_agent", time.time(), "{}"))


# --- the ramp -----------------------------------------------------------------------------------------


def test_ramp_goes_from_observation_to_the_end(store_url: str, tmp_path: Path) -> None:
    begin = time.time() - 10 * DAY
    path = write_ramp(tmp_path, store_url, 0, "    observe: 1d")
    with opened(store_url) as database:
        fill(database, 0, begin=begin, end=begin + HOUR)
        assert action(run(path, store_url, now=begin + HOUR + 60)) == (Action.HOLD, 0.0)
        fill(database, 0, begin=begin + 2 * HOUR, end=begin + DAY)
        assert action(run(path, store_url, now=begin + DAY + 60)) == (Action.ADVANCE, 50.0)
        assert percentage_of(path) == 50
        fill(database, 50, begin=begin + DAY + 120, end=begin + DAY + HOUR)
        soaking = run(path, store_url, now=begin + DAY + HOUR)
        assert (action(soaking), reasons(soaking)) == ((Action.HOLD, 50.0), ["SOAK"])
        fill(database, 50, begin=begin + DAY + HOUR, end=begin + DAY + 3 * HOUR)
        asking = run(path, store_url, now=begin + DAY + 3 * HOUR)
        assert (action(asking), reasons(asking)) == ((Action.HOLD, 50.0), ["APPROVAL"])
        with controlling(path, store_url, now=begin + DAY + 3 * HOUR + 1) as controller:
            agreed = orders.go_to(controller, controller.look(QA), None)
        assert action(agreed) == (Action.ADVANCE, 80.0)
        fill(database, 80, begin=begin + DAY + 4 * HOUR, end=begin + DAY + 6 * HOUR)
        assert action(run(path, store_url, now=begin + DAY + 6 * HOUR)) == (Action.ADVANCE, 100.0)
        over = run(path, store_url, now=begin + DAY + 7 * HOUR)
        assert action(over) == (Action.HOLD, 100.0)
        assert percentage_of(path) == 100
        decided = memory.history(database, "qa_agent")[::-1]
    moves = [(each.percentage, each.target) for each in decided if each.target is not None]
    assert moves == [(0, 50), (50, 80), (80, 100)]
    advance = next(each for each in decided if each.target == 50)
    assert advance.evidence["outcome"] == "pass"


def test_move_keeps_every_other_byte_of_the_policy(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=0)
    before = path.read_text()
    with controlling(path) as controller:
        orders.go_to(controller, controller.look(QA), 12.5)
    line = '    qa_agent: {fine_tuned: "ft:m", fallback: m, rollout_percentage: 12.5}   # the oldest'
    assert path.read_text() == before.replace('    qa_agent: {fine_tuned: "ft:m", fallback: m}   # the oldest', line)


def test_agents_are_decided_on_by_themselves(failing: Path) -> None:
    with controlling(failing) as controller:
        done = controller.evaluate(["qa_agent", "legal_agent"])
    assert [(step.plan.action, step.target) for step in done.steps] == [(Action.ROLLBACK, 0.0), (Action.HOLD, 0.0)]
    assert (percentage_of(failing), percentage_of(failing, "legal_agent")) == (0, 0)


def test_percentage_of_no_step_goes_on_to_the_next_one(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=60)
    with opened(store_of(tmp_path)) as database:
        fill(database, 60, begin=time.time() - 25 * HOUR)
    with controlling(path) as controller:
        (look,) = controller.look(QA)
        assert look.verdict.next_percentage == 80
        assert action(orders.go_to(controller, [look], 70, "why not")) == (Action.SET, 70.0)
    assert percentage_of(path) == 70


def test_percentage_that_is_gone_back_to_soaks_anew(sound: Path) -> None:
    for target in (80.0, 50.0):
        with controlling(sound) as controller:
            orders.go_to(controller, controller.look(QA), target)
    assert "SOAK" in reasons(run(sound))
    assert "SOAK" not in reasons(run(sound, now=time.time() + 2 * HOUR))


def test_waiting_is_written_down_when_its_reasons_change(sound: Path) -> None:
    for _ in range(3):
        run(sound)
    assert [(each.action, list(each.reasons)) for each in past(sound)] == [("hold", ["APPROVAL"])]
    run(sound, now=time.time() + DAY)
    assert [list(each.reasons) for each in past(sound)] == [["APPROVAL"], ["STALE", "NO_TRAFFIC"]]


# --- failures -----------------------------------------------------------------------------------------


def test_failing_guardrail_is_rolled_back_once_and_stays_there(failing: Path) -> None:
    assert action(run(failing)) == (Action.ROLLBACK, 0.0)
    assert percentage_of(failing) == 0
    again = run(failing)
    assert (action(again), reasons(again)[0]) == ((Action.HOLD, 0.0), "FAILED")
    run(failing)
    assert [each.action for each in past(failing)] == ["rollback", "hold"]
    assert past(failing)[0].reasons[0].startswith("GUARDRAIL_FAIL(success)")


def test_latched_failure_is_rolled_back_again_where_the_policy_is_put_back(failing: Path) -> None:
    before = failing.read_bytes()
    run(failing)
    failing.write_bytes(before)
    assert action(run(failing)) == (Action.ROLLBACK, 0.0)
    assert percentage_of(failing) == 0


def test_cleared_failure_fails_again_on_the_same_data(failing: Path) -> None:
    before = failing.read_bytes()
    run(failing)
    with controlling(failing) as controller:
        assert action(orders.clear(controller, controller.look(QA)))[0] is Action.CLEAR
    assert "FAILED" not in reasons(run(failing))
    failing.write_bytes(before)
    assert reasons(run(failing))[0] == "GUARDRAIL_FAIL(success)"


def test_on_fail_pause_stays_and_latches(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, more="    on_fail: pause")
    with opened(store_of(tmp_path)) as database:
        fill(database, 50, failing=0.7, begin=time.time() - 2 * HOUR)
    assert action(run(path)) == (Action.FAIL, 50.0)
    assert action(run(path)) == (Action.HOLD, 50.0)
    assert [each.action for each in past(path)][:1] == ["fail"]


def test_tripped_brake_is_a_failure(sound: Path) -> None:
    trip(sound)
    done = run(sound)
    assert (action(done), reasons(done)[0]) == ((Action.ROLLBACK, 0.0), "BRAKE")


def test_clear_releases_brake_and_hold_and_is_written_down(sound: Path) -> None:
    trip(sound)
    run(sound)
    with controlling(sound) as controller:
        orders.clear(controller, controller.look(QA))
    with controlling(sound) as controller:
        (look,) = controller.look(QA)
    assert (look.evidence.brake, look.evidence.hold) == (None, None)
    assert [each.action for each in past(sound)] == ["rollback", "clear"]


# --- crashes, races, files that cannot be written -----------------------------------------------------

CRASH = """
import os, pathlib, signal, sys
from tests.experiment.ramps import controlling
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with controlling(pathlib.Path(sys.argv[1])) as controller:
    controller.evaluate(["qa_agent"])
"""


def die_before_the_edit(path: Path) -> None:
    """A controller that is killed after its decision is kept, and before the policy's file is replaced."""
    died = subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False, timeout=30)
    assert died.returncode == -9


def test_rollback_that_was_cut_off_is_done_at_the_next_look(failing: Path) -> None:
    before = failing.read_bytes()
    die_before_the_edit(failing)
    assert failing.read_bytes() == before
    assert [(each.action, each.target) for each in past(failing)] == [("rollback", 0)]
    assert action(run(failing)) == (Action.ROLLBACK, 0.0)
    assert percentage_of(failing) == 0


def test_advance_that_was_cut_off_is_decided_anew(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=80)
    with opened(store_of(tmp_path)) as database:
        fill(database, 80, begin=time.time() - 2 * HOUR)
    die_before_the_edit(path)
    assert percentage_of(path) == 80
    assert [(each.action, each.target) for each in past(path)] == [("advance", 100)]
    with opened(store_of(tmp_path)) as database:
        fill(database, 80, failing=0.9, begin=time.time() - HOUR)
    assert action(run(path)) == (Action.ROLLBACK, 0.0)


def test_hand_that_is_faster_wins_and_the_history_says_so(failing: Path) -> None:
    with controlling(failing) as controller:
        theirs = failing.read_bytes().replace(b"rollout_percentage: 50", b"rollout_percentage: 5")
        failing.write_bytes(theirs)
        with pytest.raises(EditError, match="somebody else"):
            controller.evaluate(QA)
    assert failing.read_bytes() == theirs
    assert past(failing) == []


def test_hand_that_edits_at_the_last_moment_wins_and_the_history_says_so(
    failing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = memory.record

    def disturbed(*args: object, **kwargs: object) -> None:
        kept(*args, **kwargs)  # type: ignore[arg-type]
        failing.write_bytes(failing.read_bytes() + b"# meanwhile\n")

    monkeypatch.setattr(memory, "record", disturbed)
    with controlling(failing) as controller, pytest.raises(EditError, match="somebody else"):
        controller.evaluate(QA)
    monkeypatch.undo()
    assert percentage_of(failing) == 50
    assert [each.action for each in past(failing)] == ["rollback", "not_done"]
    assert action(run(failing)) == (Action.ROLLBACK, 0.0)


def test_read_only_policy_is_not_moved_and_the_failure_is_latched(failing: Path) -> None:
    failing.chmod(0o444)
    with controlling(failing) as controller, pytest.raises(EditError, match="read-only"):
        controller.evaluate(QA)
    assert [each.action for each in past(failing)] == ["rollback", "not_done"]
    with controlling(failing) as controller:
        assert controller.look(QA)[0].evidence.hold is not None


def test_agent_that_cannot_be_moved_keeps_no_other_where_it_is(failing: Path) -> None:
    text = failing.read_text().replace(", rollout_percentage: 0}", ", rollout_percentage: '${SHARE:-0}'}")
    failing.write_text(text.replace("rollout:\n", "rollout:\n    observe: 1h\n"))
    begin = time.time() - 2 * HOUR
    with opened(store_of(failing.parent)) as database:
        fill(database, 0, begin=begin, agent="legal_agent", salt="legal_agent/ft:l")
    for _ in range(2):
        with controlling(failing) as controller:
            done = controller.evaluate(["qa_agent", "legal_agent"])
        assert done.steps[1].plan.action is Action.NOT_DONE
        (decision,) = past(failing, "legal_agent")
        assert (decision.action, decision.percentage) == ("not_done", 0)
        assert "comes through" in decision.reasons[-1]
    assert percentage_of(failing) == 0


def test_failing_agent_that_cannot_be_moved_is_latched_all_the_same(failing: Path) -> None:
    failing.write_text(failing.read_text().replace("fallback: m}", "fallback: m, rollout_percentage: '${SHARE:-50}'}"))
    done = run(failing)
    assert (action(done), done.edited) == ((Action.NOT_DONE, 50.0), None)
    with controlling(failing) as controller:
        hold = controller.look(QA)[0].evidence.hold
    assert hold is not None
    assert (hold.kind, hold.reason) == ("failed", "GUARDRAIL_FAIL(success)")


def test_policy_of_another_hand_to_apply_is_not_written(failing: Path) -> None:
    failing.chmod(0o444)
    before = failing.read_bytes()
    done = run(failing, apply=False)
    assert (done.written, failing.read_bytes()) == (False, before)
    assert done.edited is not None
    assert b"rollout_percentage: 0}   # the oldest" in done.edited.files[0].after
    assert [each.action for each in past(failing)] == ["rollback"]


def test_lease_that_was_lost_keeps_everything_as_it_is(failing: Path) -> None:
    def lost() -> None:
        raise RuntimeError("lost")

    with controlling(failing, confirm=lost) as controller, pytest.raises(RuntimeError, match="lost"):
        controller.evaluate(QA)
    assert percentage_of(failing) == 50
    assert past(failing) == []


def test_salt_is_that_of_the_decision(sound: Path) -> None:
    run(sound)
    assert [each.salt for each in past(sound)] == [SALT]

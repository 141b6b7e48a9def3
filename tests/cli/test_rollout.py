"""`splitlane rollout`: what a person orders, on real policies and stores."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.ledger import brakes
from proxy.words import Brake
from tests.cli.running import splitlane
from tests.experiment.ramps import HOUR, controlling, fill, percentage_of, write_ramp
from tests.ledger.records import opened


def order(path: Path, *argv: str) -> int:
    """The exit code of an order to `qa_agent`."""
    return main(["rollout", *argv, "--policy", str(path), "--agent", "qa_agent"])


def told(capsys: pytest.CaptureFixture[str], path: Path, *argv: str, code: int = 0) -> Any:
    """What an order says as JSON."""
    capsys.readouterr()
    assert order(path, *argv, "--json") == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A ramp at 50 % whose gate passes; the next step wants an approval."""
    with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
        fill(database, 50, begin=time.time() - 2 * HOUR)
    return write_ramp(tmp_path)


@pytest.fixture
def young(tmp_path: Path) -> Path:
    """A ramp at 50 % that has hardly begun."""
    with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
        fill(database, 50, begin=time.time() - 0.5 * HOUR)
    return write_ramp(tmp_path)


# --- percentages --------------------------------------------------------------------------------------


def test_higher_percentage_is_set_where_the_gates_pass(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert order(sound, "--percentage", "80") == 0
    assert percentage_of(sound) == 80
    assert capsys.readouterr().out.splitlines()[0].startswith("qa_agent: 50 % → 80 % (advance)")


def test_higher_percentage_is_refused_with_reasons_and_etas(young: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = young.read_bytes()
    assert order(young, "--percentage", "80") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].startswith("splitlane rollout: qa_agent stays at 50 %: SOAK, in 30 min")
    assert lines[-1] == 'splitlane rollout: nothing was changed; --force "why" overrides the gates'
    assert young.read_bytes() == before
    assert told(capsys, young, "history") == []


def test_forced_percentage_is_set_and_recorded_with_reason_and_actor(
    young: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert order(young, "--percentage", "80", "--force", "the vendor ends it") == 0
    assert percentage_of(young) == 80
    (decision,) = told(capsys, young, "history")
    assert (decision["action"], decision["percentage"], decision["target"]) == ("advance", 50, 80)
    assert list(decision["reasons"]) == ["SOAK", "forced: the vendor ends it"]
    assert "@" in decision["actor"]
    assert decision["evidence"]["stages"][0]["finetuned"]["requests"] > 0


@pytest.mark.parametrize("percentage", ["30", "0", "12.5"])
def test_lower_percentage_needs_no_gate(young: Path, percentage: str) -> None:
    assert order(young, "--percentage", percentage) == 0
    assert percentage_of(young) == float(percentage)


def test_same_percentage_changes_and_records_nothing(young: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = young.read_bytes()
    assert order(young, "--percentage", "50") == 0
    assert capsys.readouterr().out == "nothing to change: at 50 % already\n"
    assert young.read_bytes() == before
    assert told(capsys, young, "history") == []


def test_one_refused_agent_keeps_all_where_they_are(young: Path) -> None:
    before = young.read_bytes()
    assert main(["rollout", "--percentage", "80", "--policy", str(young)]) == 1  # legal_agent may start
    assert young.read_bytes() == before


def test_all_agents_to_one_value_is_the_shared_percentage(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=0)
    path.write_text(path.read_text().replace(", rollout_percentage: 0}\n\n", "}\n\n"))
    before = path.read_text()
    assert main(["rollout", "--percentage", "5", "--policy", str(path)]) == 0
    assert path.read_text() == before.replace(
        "rollout_percentage: 0}  # the ramp", "rollout_percentage: 5}  # the ramp"
    )


def test_extended_file_is_left_alone(tmp_path: Path) -> None:
    shared = write_ramp(tmp_path, percentage=0)
    shared.rename(tmp_path / "_shared.yaml")
    before = (tmp_path / "_shared.yaml").read_bytes()
    path = tmp_path / "production.yaml"
    path.write_text("extends: _shared.yaml  # below\nenvironment: production\n")
    assert order(path, "--percentage", "10") == 0
    assert path.read_text() == (
        "extends: _shared.yaml  # below\nenvironment: production\nagents:\n  qa_agent:\n    rollout_percentage: 10\n"
    )
    assert (tmp_path / "_shared.yaml").read_bytes() == before


# --- the other orders ---------------------------------------------------------------------------------


def test_advance_is_the_approval_and_ends_at_the_last_step(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert order(sound, "advance") == 0
    assert percentage_of(sound) == 80
    assert order(sound, "advance") == 1
    assert order(sound, "advance", "--force", "enough") == 0
    capsys.readouterr()
    assert order(sound, "advance") == 0
    assert capsys.readouterr().out == "nothing to change: the last step is reached\n"


def test_advance_starts_a_ramp(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=0)
    assert order(path, "advance") == 0
    assert percentage_of(path) == 50


def test_pause_keeps_it_where_it_is_until_resume(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert order(sound, "pause", "a holiday") == 0
    assert order(sound, "run") == 0
    assert order(sound, "advance") == 1
    assert "PAUSED" in capsys.readouterr().err
    assert order(sound, "resume") == 0
    assert order(sound, "resume") == 0
    assert capsys.readouterr().out.endswith("nothing to change: nothing is paused\n")
    assert order(sound, "advance") == 0
    assert percentage_of(sound) == 80


def test_rollback_without_a_reason_is_by_hand_and_on_somebodys_behalf(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert order(sound, "rollback", "--by", "ann, on call") == 0
    assert percentage_of(sound) == 0
    (decision,) = told(capsys, sound, "history")
    assert (decision["actor"], decision["reasons"]) == ("ann, on call", ["by hand"])


def test_rollback_stays_until_it_is_cleared(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert order(sound, "rollback", "wrong language") == 0
    assert percentage_of(sound) == 0
    assert order(sound, "pause", "why not") == 1
    assert order(sound, "advance") == 1
    shown = capsys.readouterr().err
    assert "FAILED: wrong language" in shown
    assert "`splitlane rollout clear`" in shown
    assert order(sound, "clear") == 0
    assert "the same data fails again" in capsys.readouterr().err
    assert order(sound, "advance") == 0
    assert [each["action"] for each in told(capsys, sound, "history")] == ["advance", "clear", "rollback"]


def test_forced_failing_agent_is_left_alone_by_the_controller(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
        fill(database, 50, failing=0.7, begin=time.time() - 2 * HOUR)
    path = write_ramp(tmp_path)
    assert order(path, "--percentage", "80") == 1
    assert order(path, "--percentage", "80", "--force", "I know") == 0
    assert order(path, "run") == 3
    assert percentage_of(path) == 80
    order(path, "resume")
    assert order(path, "run") == 3
    assert percentage_of(path) == 0


# --- status -------------------------------------------------------------------------------------------


def test_status_says_where_it_is_and_what_it_waits_for(young: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert order(young, "pause", "a holiday") == 0
    with controlling(young) as controller:
        brakes.trip(controller.database, Brake("b-1", "qa_agent", time.time(), "{}"))
    capsys.readouterr()
    assert order(young, "status") == 3
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = [line.strip() for line in out.splitlines()]
    assert lines[1].startswith("qa_agent  50 %  FAIL")
    assert any(line.startswith("stage since ") and "users fine-tuned" in line for line in lines)
    assert any(line.startswith("brake: tripped ") for line in lines)
    assert any(line.startswith("hold: paused since ") and line.endswith(": a holiday") for line in lines)
    assert any(line.startswith("last decision: ") and "pause at 50 %" in line for line in lines)


def test_status_as_json_has_all_numbers(young: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, young, "status")
    (agent,) = shown["agents"]
    assert (agent["agent"], agent["percentage"], agent["outcome"], agent["next_percentage"]) == (
        "qa_agent", 50, "hold", 80,
    )  # fmt: skip
    (soak,) = [each for each in agent["reasons"] if each["reason"] == "SOAK"]
    assert 0 < soak["eta"] <= HOUR
    assert agent["gates"][0]["gate"] == "success"
    assert agent["last_decision"] is None


def test_status_changes_nothing(young: Path, tmp_path: Path) -> None:
    before = (tmp_path / "s.db").read_bytes()
    assert order(young, "status") == 0
    assert (tmp_path / "s.db").read_bytes() == before


def test_history_has_the_latest_first_and_as_many_as_asked(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for percentage in ("40", "30", "20"):
        order(sound, "--percentage", percentage)
    assert [each["target"] for each in told(capsys, sound, "history", "--limit", "2")] == [20, 30]
    capsys.readouterr()
    assert order(sound, "history") == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("qa_agent  2")


# --- what is wrong ------------------------------------------------------------------------------------


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that an order ends with, and exit code 2."""
    capsys.readouterr()
    assert main(["rollout", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


def test_unknown_agent_and_missing_stores_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_ramp(tmp_path)
    assert "no proxy has written" in failed(capsys, "status", "--policy", str(path))
    assert "it has qa_agent, legal_agent" in failed(capsys, "run", "--policy", str(path), "--agent", "qa")
    down = "postgresql://me:hunter2@127.0.0.1:1/x?connect_timeout=1"
    assert "hunter2" not in failed(capsys, "run", "--policy", str(path), "--store", down)


def test_switch_that_makes_percentages_idle_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_ramp(tmp_path, more="models: {use_finetuned: false}")
    assert "models.use_finetuned is false" in failed(capsys, "--percentage", "10", "--policy", str(path))
    assert main(["rollout", "status", "--policy", str(path)]) == 0
    assert "the ramp does nothing: models.use_finetuned is false" in capsys.readouterr().out


def test_bad_policy_is_its_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_ramp(tmp_path, more="    on_fial: pause")
    assert "on_fial" in failed(capsys, "run", "--policy", str(path))


def test_percentage_that_the_policy_cannot_have_is_its_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_ramp(tmp_path, percentage=0)
    path.write_text(path.read_text().replace('fine_tuned: "ft:m"', 'compat: unleash, salt: s, fine_tuned: "ft:m"'))
    before = path.read_bytes()
    assert "whole percentage" in failed(capsys, "--percentage", "2.5", "--policy", str(path), "--agent", "qa_agent")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), "one of status, advance"),
        (("--percentage", "101"), "0 to 100"),
        (("--percentage", "0.001"), "two decimals"),
        (("--percentage", "10", "status"), "not allowed with status"),
        (("pause",), "REASON"),
        (("pause", " "), "in words"),
        (("--percentage", "10", "--force", ""), "in words"),
        (("run", "--every", "5"), "5m"),
        (("run", "--output", "file.yaml"), "configmap-patch"),
    ],
)
def test_wrong_argument_is_told_what_was_expected(
    argv: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rollout", *argv])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_option_counts_before_and_after_the_order(sound: Path) -> None:
    shown = splitlane("rollout", "--policy", str(sound), "--json", "status", "--agent", "qa_agent")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [each["agent"] for each in json.loads(shown.stdout)["agents"]] == ["qa_agent"]


# --- less is always possible --------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [("rollback", "it burns"), ("--percentage", "5")])
def test_less_is_possible_without_the_store(
    sound: Path, argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    down = "postgresql://me:hunter2@127.0.0.1:1/x?connect_timeout=1"
    assert order(sound, *argv, "--store", down) == 0
    assert percentage_of(sound) == (5 if argv[0] == "--percentage" else 0)
    shown = capsys.readouterr()
    assert shown.out == f"wrote {sound}\n"
    assert "neither recorded nor held" in shown.err
    assert "hunter2" not in shown.err


def test_more_is_not(sound: Path) -> None:
    assert order(sound, "--percentage", "80", "--store", "postgresql://127.0.0.1:1/x?connect_timeout=1") == 2
    assert percentage_of(sound) == 50

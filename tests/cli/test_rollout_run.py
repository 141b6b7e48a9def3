"""`splitlane rollout run` as cron, a CronJob and a service start it: as processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.cli.rollout_watch import watch
from proxy.experiment import memory
from proxy.experiment.lease import leased
from proxy.policy.load import parse_policy
from proxy.telemetry import slack
from tests.cli.running import splitlane
from tests.experiment.ramps import HOUR, controlling, fill, percentage_of, write_ramp
from tests.ledger.records import opened
from tests.support.collector import collector
from tests.support.served import ROOT


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    """A ramp at 50 % whose fine-tune fails most of its users."""
    with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
        fill(database, 50, failing=0.7, begin=time.time() - 2 * HOUR)
    return write_ramp(tmp_path)


def started(path: Path, *argv: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "proxy", "rollout", "run", "--policy", str(path), *argv]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_run_on_a_postgresql_store_rolls_back_and_says_it_in_its_exit_code(
    store_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_ramp(tmp_path, store_url)
    with opened(store_url) as database:
        fill(database, 50, failing=0.7, begin=time.time() - 2 * HOUR)
    assert main(["rollout", "run", "--policy", str(path)]) == 3
    assert percentage_of(path) == 0
    assert (
        capsys.readouterr().out.splitlines()[0].startswith("qa_agent: 50 % → 0 % (rollback): GUARDRAIL_FAIL(success)")
    )
    assert main(["rollout", "status", "--policy", str(path)]) == 3
    assert main(["rollout", "clear", "--policy", str(path)]) == 0
    assert main(["rollout", "history", "--policy", str(path), "--json"]) == 0


def test_two_controllers_at_once_decide_once(failing: Path) -> None:
    both = [started(failing, "--agent", "qa_agent", "--json") for _ in range(2)]
    shown = [process.communicate(timeout=30) for process in both]
    assert [errors for _, errors in shown] == ["", ""]
    assert {process.returncode for process in both} == {3}
    done = [json.loads(out)["agents"][0] for out, _ in shown]
    assert sorted(each["action"] for each in done) == ["hold", "rollback"]
    with controlling(failing) as controller:
        assert sorted(each.action for each in memory.history(controller.database, "qa_agent")) == ["hold", "rollback"]


def test_controller_that_finds_another_one_deciding_says_who_and_ends_with_4(
    failing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setattr("proxy.experiment.lease.time.monotonic", lambda: next(ticks))
    with controlling(failing) as controller, leased(controller.database, "ann@host, process 7"):
        assert main(["rollout", "run", "--policy", str(failing)]) == 4
        shown = capsys.readouterr()
        assert shown.err.startswith("splitlane rollout: ann@host, process 7 is deciding right now, for 60 s at most")
        assert shown.out == ""
        assert main(["rollout", "rollback", "at once", "--policy", str(failing)]) == 0
    assert percentage_of(failing) == 0


# --- Slack ------------------------------------------------------------------------------------------


def test_rollback_by_the_controller_is_told_to_slack_once(failing: Path) -> None:
    with collector() as hook:
        failing.write_text(failing.read_text() + f'alerting: {{slack_webhook: "{hook.url}/hook"}}\n')
        for _ in range(2):
            assert main(["rollout", "run", "--policy", str(failing)]) == 3
        (post,) = hook.posts
    text = json.loads(post.body)["text"]
    assert text.startswith("Splitlane, test: qa_agent rolled back from 50 % to 0 %: GUARDRAIL_FAIL(success)")


def test_webhook_that_refuses_or_is_unset_changes_nothing(
    failing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slack, "PAUSE", 0.01)
    text = failing.read_text()
    failing.write_text(text + 'alerting: {slack_webhook: "${SLACK_WEBHOOK_URL}"}\n')
    assert main(["rollout", "run", "--policy", str(failing)]) == 3
    assert percentage_of(failing) == 0
    assert capsys.readouterr().err == ""
    failing.write_text(text + 'alerting: {slack_webhook: "http://127.0.0.1:1/canary"}\n')
    assert main(["rollout", "run", "--policy", str(failing)]) == 3
    assert percentage_of(failing) == 0
    assert "canary" not in "".join(capsys.readouterr())


# --- patches ------------------------------------------------------------------------------------------


def test_patch_brings_the_whole_file_and_nothing_is_written(failing: Path) -> None:
    before = failing.read_text()
    failing.chmod(0o444)
    shown = splitlane("rollout", "run", "--policy", str(failing), "--output", "configmap-patch")
    assert (shown.returncode, failing.read_text()) == (3, before)
    patch = json.loads(shown.stdout)
    assert list(patch) == ["data"]
    assert list(patch["data"]) == ["policy.yaml"]
    after = patch["data"]["policy.yaml"]
    old, new = "fallback: m}   # the oldest", "fallback: m, rollout_percentage: 0}   # the oldest"
    assert after == before.replace(old, new)
    assert shown.stderr.splitlines()[0].startswith("qa_agent: 50 % → 0 % (rollback)")
    again = splitlane("rollout", "run", "--policy", str(failing), "--output", "configmap-patch")
    assert json.loads(again.stdout) == patch, "what was not applied is asked for again"


def test_patch_has_the_key_that_was_asked_for_and_only_the_file_that_changes(tmp_path: Path) -> None:
    write_ramp(tmp_path, percentage=0).rename(tmp_path / "_shared.yaml")
    path = tmp_path / "production.yaml"
    path.write_text("extends: _shared.yaml\n")
    argv = ("--policy", str(path), "--output", "configmap-patch", "--configmap-key", "policy", "--agent", "qa_agent")
    shown = splitlane("rollout", "--percentage", "10", *argv)
    assert shown.returncode == 0
    (key, text) = next(iter(json.loads(shown.stdout)["data"].items()))
    assert key == "policy"
    config = parse_policy(text.encode(), str(path), {})
    assert config.agents["qa_agent"].rollout_percentage == 10


def test_patch_of_nothing_is_an_empty_one(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=0)
    shown = splitlane("rollout", "run", "--policy", str(path), "--output", "configmap-patch")
    assert (shown.returncode, shown.stdout) == (0, "{}\n")


# --- watch --------------------------------------------------------------------------------------------


@contextmanager
def watching(path: Path) -> "Iterator[subprocess.Popen[str]]":
    process = started(path, "--watch", "--every", "1s")
    os.set_blocking(process.stdout.fileno(), True)  # type: ignore[union-attr]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read(stream: object, words: str) -> None:
    """Lines, until one has these words; the test's time-out bounds it."""
    while words not in (line := stream.readline()):  # type: ignore[attr-defined]
        assert line, f"ended without {words!r}"


def test_watch_survives_a_bad_policy_and_a_lost_store_and_ends_cleanly(tmp_path: Path) -> None:
    path = write_ramp(tmp_path, percentage=0)
    good = path.read_text()
    with watching(path) as process:
        read(process.stdout, "legal_agent: stays at 0 %")
        path.write_text("nonsense: [")
        read(process.stderr, "policy.yaml:")
        path.write_text(good.replace("/s.db", "/policy.yaml/s.db"))
        read(process.stderr, "splitlane rollout: ")
        with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
            fill(database, 50, failing=0.7, begin=time.time() - 2 * HOUR)
        path.write_text(good.replace("rollout_percentage: 0}  # the ramp", "rollout_percentage: 50}  # the ramp"))
        read(process.stdout, "qa_agent: 50 % → 0 % (rollback)")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
    assert percentage_of(path) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_a_look_lets_it_end_and_is_the_last(number: signal.Signals) -> None:
    looks = []

    def look() -> int:
        os.kill(os.getpid(), number)
        looks.append("ended")
        return 2

    before = signal.getsignal(number)
    assert watch(look, 3600) == 0
    assert looks == ["ended"]
    assert signal.getsignal(number) is before

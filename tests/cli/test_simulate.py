"""`splitlane simulate`: from assumptions, from a store, and of users observed at 0 %."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.ledger.thresholds import freeze
from proxy.words import Assignment, Decision, Variant
from tests.ledger.records import NOW, keep, opened, record
from tests.support.lane import BASELINE, FINETUNED
from tests.support.served import ROOT, write_policy

AGENTS = ("qa_agent", "legal_agent")
FEW = ("--ramps", "12", "--users-per-day", "150", "--days", "3", "--looks", "2")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Its store has a thousand requests of 200 users at 0 %."""
    url = f"sqlite:///{tmp_path / 's.db'}"
    with opened(url) as database:
        keep(database, [
            record(time=NOW + user + number, percentage=0.0, unit=f"{user:032x}", salt="the-salt",
                   latency=0.4 + user / 1000 + number / 100,
                   decision=Decision(Variant.BASELINE, Assignment.BASELINE, user * 49))
            for user in range(200) for number in range(5)
        ])  # fmt: skip
        freeze(database, NOW + 3600)
    agents = {name: {"fine_tuned": FINETUNED, "fallback": BASELINE, "salt": "the-salt"} for name in AGENTS}
    ramp = {"ramp": [50, 100]}
    return write_policy(tmp_path, "http://127.0.0.1:1", store={"url": url}, agents=agents, rollout=ramp)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["simulate", *argv]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["simulate", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err.removeprefix("splitlane simulate: ").rstrip("\n")


def test_text_has_both_models_side_by_side(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--policy", str(policy), *FEW, "--effect", "-40").splitlines()
    assert lines[0] == "50 → 100 %, 2 looks a day for 3 days; 12 ramps of each kind, seed 1"
    assert lines[1] == "assumed: 150 users a day, 60% of them known, 5 requests each; the baseline answers 98 %"
    assert lines[2].split() == ["as", "good", "-40", "pp"]
    stopped = next(line for line in lines if line.startswith("stopped by a gate"))
    good, bad = re.findall(r"([\d.]+) % \(", stopped)
    assert (float(good), float(bad)) == (0, 100)
    assert lines[-2] == "shares: with the 95 % interval that so few ramps leave"


def test_json_is_repeatable_and_complete(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--policy", str(policy), *FEW, "--json")
    first, again, other = (run(capsys, *asked, "--seed", seed) for seed in ("7", "7", "8"))
    assert first == again != other
    told: dict[str, Any] = json.loads(first)
    assert told["percentages"] == [50, 100]
    assert told["traffic"]["users_per_day"] == 150
    good, bad = told["finetunes"]
    assert (good["effect"]["success"], bad["effect"]["success"]) == (0, -0.02)
    assert set(good["stopped"]) == {"share", "lower", "upper"}
    assert good["stopped"]["share"] + good["completed"]["share"] + good["undecided"]["share"] == pytest.approx(1)


def test_store_s_users_are_drawn(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--policy", str(policy), "--since", "2026-11-01", "--ramps", "3", "--days", "2", "--agent", "qa_agent")
    lines = run(capsys, *asked, "--from-store").splitlines()
    assert lines[1] == (
        "recorded: 1,000 requests of 200 users of qa_agent in 1 days; 200 users are drawn; the baseline answers 100 %"
    )
    told = json.loads(run(capsys, *asked, "--from-store", f"sqlite:///{policy.parent / 's.db'}", "--json",
                          "--users-per-day", "50"))  # fmt: skip
    assert told["traffic"] == {
        "agent": "qa_agent", "recorded_users": 200, "recorded_days": 1, "recorded_requests": 1000, "users": 50,
    }  # fmt: skip


def test_users_observed_at_0_percent_are_split_at_random(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--policy", str(policy), "--observe", "--agent", "qa_agent", "--relabelings", "5")
    lines = run(capsys, *asked).splitlines()
    assert lines[:2] == [
        "qa_agent",
        "observed at 0 %: 1,000 requests in 200 buckets of users; 5 random splits into 50 % and 50 %",
    ]
    assert lines[2].startswith("frozen from the baseline: slow is above ")
    told = json.loads(run(capsys, *asked, "--json"))
    assert (told["agent"], told["requests"], told["relabelings"]) == ("qa_agent", 1000, 5)


def test_what_is_missing_is_one_line(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--policy", str(policy))
    assert refused(capsys, *asked, "--observe") == "say whose requests: --agent legal_agent|qa_agent"
    unknown = refused(capsys, *asked, "--observe", "--agent", "x")
    assert unknown == "there is no agent x: --agent legal_agent|qa_agent"
    assert refused(capsys, *asked, "--heterogeneity", "50").endswith("differ by less than 0.14 between users")
    late = refused(capsys, *asked, "--from-store", "--agent", "qa_agent", "--since", "1m")
    assert late == "qa_agent has 0 users on the baseline in that time; 50 are needed to draw from"
    none = refused(capsys, *asked, "--from-store", f"sqlite:///{tmp_path}/none.db", "--agent", "qa_agent")
    assert none == f"there is no file {tmp_path}/none.db: no proxy has written to it yet"
    assert "no user of legal_agent was seen at 0 %" in refused(capsys, *asked, "--observe", "--agent", "legal_agent")
    (tmp_path / "bare").mkdir()
    bare = write_policy(tmp_path / "bare", "http://127.0.0.1:1")
    assert "keeps no records" in refused(capsys, "--policy", str(bare), "--from-store", "--agent", "qa_agent")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--ramps", "0", "a whole number from 1 to 100000"),
        ("--success", "101%", "a share, such as 98%"),
        ("--effect", "much", "percentage points, such as -2 or -2pp"),
        ("--latency-effect", "-100%", "a per cent, such as 10 or +10%"),
        ("--spread", "nan", "a number from 0 to 3"),
    ],
)
def test_wrong_number_is_refused(option: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", f"{option}={value}"])
    assert f"argument {option}: expected {expected}" in capsys.readouterr().err


def test_numbers_may_have_their_units(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--policy", str(policy), "--ramps", "1", "--days", "1", "--users-per-day", "20", "--json")
    plain = run(capsys, *asked, "--effect=-3", "--success=97", "--cost-effect=10")
    assert run(capsys, *asked, "--effect=-3pp", "--success=97%", "--cost-effect=+10%") == plain


def test_without_numpy_it_says_what_to_install(policy: Path) -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        f"from proxy.cli import main; sys.exit(main(['simulate', '--policy', {str(policy)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "splitlane simulate: NumPy is missing; pip install 'splitlane[simulate]'\n"

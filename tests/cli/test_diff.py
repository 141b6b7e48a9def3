"""`splitlane diff`: what a person and a pipeline see."""

import json
from pathlib import Path

import pytest

from proxy.cli import main
from tests.cli.running import splitlane

AGENTS = ["qa_agent", "content_agent", "legal_agent", "support_agent", "analyst_agent"]


def write(path: Path, model: str, percentage: float = 10, key: str = "sk-canary-1") -> Path:
    path.write_text(f"""
environment: test
upstreams: {{up: {{base_url: "http://a", api_key: "{key}"}}}}
agents: {{qa_agent: {{fine_tuned: "{model}", fallback: base, rollout_percentage: {percentage}}}}}
""")
    return path


def test_staging_to_production_is_told_without_any_variable_set() -> None:
    """ACCEPTANCE: the diff of the shipped policies tells the truth about every user."""
    shown = splitlane("diff", "policies/staging.yaml", "policies/production.yaml")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if line.endswith(": changed")] == AGENTS
    assert sum("90 % of users: fine-tuned → baseline" in line for line in lines) == 5
    assert sum("requests without a user: fine-tuned → baseline" in line for line in lines) == 5


def test_production_to_staging_is_told_to_machines() -> None:
    shown = splitlane("diff", "policies/production.yaml", "policies/staging.yaml", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    found = json.loads(shown.stdout)
    assert list(found["agents"]) == AGENTS
    for agent in found["agents"].values():
        assert agent["users"]["baseline_to_finetuned"] == 0.9
        assert agent["models"][0]["costs_more"]


@pytest.mark.parametrize(
    ("model", "percentage", "code"),
    [("ft:a", 10, 0), ("ft:a", 20, 0), ("ft:a", 5, 0), ("ft:b", 10, 1), ("ft:b", 5, 0)],
)
def test_exit_code_says_whether_users_move_back_unasked(
    tmp_path: Path, model: str, percentage: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path / "old.yaml", "ft:a")
    new = write(tmp_path / "new.yaml", model, percentage, "sk-canary-2")
    for extra in ([], ["--json"]):
        assert main(["diff", str(old), str(new), *extra]) == code
        shown = capsys.readouterr()
        assert "another secret" in shown.out
        assert "canary" not in shown.out + shown.err


def test_problems_of_both_files_are_lines_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old.yaml", "ft:a", 101)
    assert main(["diff", str(old), str(tmp_path / "none.yaml")]) == 2
    shown = capsys.readouterr()
    first, second = shown.err.splitlines()
    assert shown.out == ""
    assert first.startswith(f"{old}:")
    assert "rollout_percentage" in first
    assert second.startswith(str(tmp_path / "none.yaml"))

"""`splitlane models`: verified with real SDKs against stubs, imported into real files."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.cli.live import Verdict
from proxy.cli.probe import probe_models
from proxy.policy.load import load_policy
from proxy.policy.placeholders import Placeholders
from proxy.stub import Stub, StubConfig
from proxy.words import Dialect
from tests.cli.running import splitlane

POLICIES = Path(__file__).parents[2] / "policies"
KEY = "sk-canary-4711"


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    for file in POLICIES.glob("*.yaml"):
        shutil.copy(file, folder)
    return folder / "production.yaml"


def write_models(folder: Path, **models: str) -> str:
    for agent, text in models.items():
        (folder / "models" / agent).mkdir(parents=True)
        (folder / "models" / agent / "model_id.txt").write_text(text)
    return str(folder / "models")


def finetuned(path: Path, agent: str) -> str:
    return load_policy(path, Placeholders({})).agents[agent.encode()].finetuned.model


# --- import --from FOLDER -----------------------------------------------------------------------------


def test_folders_models_are_written_where_they_stand_and_who_moves_is_told(shipped: Path, tmp_path: Path) -> None:
    shared = shipped.parent / "_shared.yaml"
    before, production = shared.read_text(), shipped.read_bytes()
    source = write_models(tmp_path, qa_agent="ft:open-mistral-7b:new\n", legal_agent="ft:open-mistral-7b:other")
    shown = splitlane("models", "import", "--from", source, "--policy", str(shipped))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0] == f"wrote {shared}"
    assert "  9 % of users: fine-tuned → baseline" in shown.stdout
    assert (finetuned(shipped, "qa_agent"), finetuned(shipped, "legal_agent")) == (
        "ft:open-mistral-7b:new",
        "ft:open-mistral-7b:other",
    )
    assert shipped.read_bytes() == production
    after = shared.read_text()
    assert len([line for line in after.splitlines() if line not in before.splitlines()]) == 2
    again = splitlane("models", "import", "--from", source, "--policy", str(shipped))
    assert (again.returncode, again.stdout) == (0, "nothing to change: the policy has these models\n")


def test_dry_run_prints_the_unified_diff_and_writes_nothing(shipped: Path, tmp_path: Path) -> None:
    shared = shipped.parent / "_shared.yaml"
    before = shared.read_bytes()
    source = write_models(tmp_path, qa_agent="ft:new")
    argv = ("models", "import", "--from", source, "--policy", str(shipped), "--dry-run")
    people, machines = splitlane(*argv), splitlane(*argv, "--json")
    assert (people.returncode, machines.returncode) == (0, 0)
    assert '\n+    fine_tuned: "ft:new"\n' in people.stdout
    told = json.loads(machines.stdout)
    assert (told["written"], [file["file"] for file in told["files"]]) == (False, [str(shared)])
    assert told["files"][0]["diff"] in people.stdout
    assert told["diff"]["agents"]["qa_agent"]["reshuffled"]
    assert shared.read_bytes() == before


def test_unknown_agent_needs_a_fallback(shipped: Path, tmp_path: Path) -> None:
    source = write_models(tmp_path, new_agent="ft:new")
    argv = ("models", "import", "--from", source, "--policy", str(shipped))
    refused = splitlane(*argv)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "new_agent" in refused.stderr
    assert "--fallback" in refused.stderr
    assert splitlane(*argv, "--fallback", "open-mistral-7b").returncode == 0
    assert finetuned(shipped, "new_agent") == "ft:new"
    assert finetuned(shipped.parent / "staging.yaml", "new_agent") == "ft:new"  # beside the others


def test_model_in_its_long_form_keeps_its_upstream(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("""\
environment: test
upstreams: {up: {base_url: "http://a"}}
agents: {qa_agent: {fine_tuned: {upstream: up, model: ft:one}, fallback: base}}
""")
    assert main(["models", "import", "--from", write_models(tmp_path, qa_agent="ft:two"), "--policy", str(path)]) == 0
    assert '{upstream: up, model: "ft:two"}' in path.read_text()


@pytest.mark.parametrize("content", ["", "two words", "a\nb"])
def test_file_without_one_id_is_a_line_and_exit_2(
    shipped: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_models(tmp_path, qa_agent=content, legal_agent="ft:fine")
    assert main(["models", "import", "--from", source, "--policy", str(shipped)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{source}/qa_agent/model_id.txt: got ")


def test_byte_order_mark_of_a_windows_editor_is_no_part_of_the_id(shipped: Path, tmp_path: Path) -> None:
    source = write_models(tmp_path, qa_agent="\ufeffft:new\r\n")
    assert main(["models", "import", "--from", source, "--policy", str(shipped)]) == 0
    assert finetuned(shipped, "qa_agent") == "ft:new"


def test_every_policy_that_extends_the_changed_file_says_who_moves(shipped: Path, tmp_path: Path) -> None:
    argv = ("--from", write_models(tmp_path, qa_agent="ft:new"), "--policy", str(shipped), "--dry-run")
    people, machines = splitlane("models", "import", *argv), splitlane("models", "import", *argv, "--json")
    others = json.loads(machines.stdout)["others"]
    assert set(others) == {str(shipped.parent / f"{name}.yaml") for name in ("demo", "dev", "staging")}
    assert all(f"\n{path} extends the same file and changes too:\n" in people.stdout for path in others)
    staging = others[str(shipped.parent / "staging.yaml")]["agents"]["qa_agent"]
    assert (staging["models"][0]["share"], staging["models"][0]["new"]["model"]) == (1.0, "ft:new")


def test_change_that_makes_another_policy_unsound_is_not_written(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A new agent is beside the others, so it needs a salt wherever compat is unleash.
    other = shipped.parent / "other.yaml"
    salts = "".join(f"  {name}_agent: {{salt: s}}\n" for name in ("qa", "content", "legal", "support", "analyst"))
    other.write_text(f"extends: _shared.yaml\nenvironment: other\ncompat: unleash\nagents:\n{salts}")
    before = (shipped.parent / "_shared.yaml").read_bytes()
    source = write_models(tmp_path, new_agent="ft:new")
    argv = ["models", "import", "--from", source, "--policy", str(shipped), "--fallback", "open-mistral-7b"]
    assert main(argv) == 2
    assert "agents.new_agent.salt" in capsys.readouterr().err
    assert (shipped.parent / "_shared.yaml").read_bytes() == before


def test_model_that_comes_through_a_variable_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT_QA", "ft:one")
    path = tmp_path / "p.yaml"
    path.write_text("""\
upstreams: {up: {base_url: "http://a"}}
agents: {qa_agent: {fine_tuned: "${FT_QA}", fallback: base}}
""")
    before = path.read_bytes()
    assert main(["models", "import", "--from", write_models(tmp_path, qa_agent="ft:two"), "--policy", str(path)]) == 2
    assert "agents.qa_agent.fine_tuned comes through ${…}" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_empty_folder_and_a_map_without_jobs_are_exit_2(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["models", "import", "--from", str(tmp_path / "none"), "--policy", str(shipped)]
    for extra in ([], ["--map", "a=b"]):
        assert main([*argv, *extra]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_read_only_file_is_a_line_and_exit_1(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shipped.parent / "_shared.yaml").chmod(0o444)
    source = write_models(tmp_path, qa_agent="ft:new")
    assert main(["models", "import", "--from", source, "--policy", str(shipped)]) == 1
    assert "read-only" in capsys.readouterr().err


# --- import --from jobs -------------------------------------------------------------------------------

OLD, NEW, OTHER = "ft:base:qa_agent:1:a", "ft:base:qa_agent:2:b", "ft:base:5010731d:3:c"
IDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(3)]


async def import_jobs(path: Path, models: tuple[str, ...], *argv: str) -> tuple[int, str]:
    """Run the import against a stub whose finished jobs made these models."""
    async with Stub(StubConfig(dialect=Dialect.MISTRAL, models=models)) as stub:
        shared = path.parent / "_shared.yaml"
        shared.write_text(shared.read_text().replace("https://api.mistral.ai", stub.url))
        argv = ("models", "import", "--from", "jobs", "--policy", str(path), *argv)
        shown = await asyncio.to_thread(
            splitlane, *argv, MISTRAL_API_KEY=KEY, SLACK_WEBHOOK_URL="https://hooks.example/x"
        )
        assert {call.header("authorization") for call in stub.calls} == {f"Bearer {KEY}"}
    assert "canary" not in shown.stdout + shown.stderr
    return shown.returncode, shown.stderr


async def test_jobs_suffix_names_its_agent(shipped: Path) -> None:
    assert await import_jobs(shipped, ("base", OLD, OTHER)) == (0, "")
    assert finetuned(shipped, "qa_agent") == OLD


async def test_several_jobs_of_one_agent_need_a_map(shipped: Path) -> None:
    code, error = await import_jobs(shipped, (OLD, NEW, OTHER))
    assert code == 2
    assert "qa_agent has 2 finished jobs" in error
    assert error.index(IDS[1]) < error.index(IDS[0])  # the newest first


async def test_map_decides_and_names_agents_that_no_suffix_names(shipped: Path) -> None:
    maps = ("--map", f"{IDS[1]}=qa_agent", "--map", f"{IDS[2]}=legal_agent")
    assert await import_jobs(shipped, (OLD, NEW, OTHER), *maps) == (0, "")
    assert (finetuned(shipped, "qa_agent"), finetuned(shipped, "legal_agent")) == (NEW, OTHER)


@pytest.mark.parametrize("argv", [(), ("--map", "nothing=qa_agent"), ("--map", "qa_agent")])
async def test_jobs_that_name_no_agent_are_exit_2(shipped: Path, argv: tuple[str, ...]) -> None:
    async with Stub(StubConfig(dialect=Dialect.MISTRAL, models=(OTHER,))) as stub:
        shared = shipped.parent / "_shared.yaml"
        shared.write_text(shared.read_text().replace("https://api.mistral.ai", stub.url))
        line = ("models", "import", "--from", "jobs", "--policy", str(shipped), *argv)
        shown = await asyncio.to_thread(
            splitlane, *line, MISTRAL_API_KEY=KEY, SLACK_WEBHOOK_URL="https://hooks.example/x"
        )
    assert (shown.returncode, shown.stdout) == (2, "")
    assert len(shown.stderr.splitlines()) == 1


# --- verify -------------------------------------------------------------------------------------------


def two_vendors(path: Path, mistral: str, openai: str) -> Path:
    path.write_text(f"""
environment: test
upstreams:
  mistral: {{base_url: "{mistral}", api_key: "${{CANARY_KEY}}", dialect: mistral}}
  openai: {{base_url: "{openai}", api_key: "${{CANARY_KEY}}2"}}
default_upstream: mistral
agents:
  qa_agent: {{fine_tuned: "ft:a", fallback: {{upstream: openai, model: gpt-4o}}}}
  legal_agent: {{fine_tuned: "ft:b", fallback: {{upstream: openai, model: gpt-4o}}}}
""")
    return path


async def test_each_model_is_asked_for_one_token_through_its_vendors_sdk(tmp_path: Path) -> None:
    async with Stub(StubConfig(dialect=Dialect.MISTRAL, models=("ft:a",))) as mistral, Stub() as openai:
        path = two_vendors(tmp_path / "p.yaml", mistral.url, openai.url)
        shown = await asyncio.to_thread(splitlane, "models", "verify", "--policy", str(path), "--json", CANARY_KEY=KEY)
        assert (shown.returncode, shown.stderr) == (1, "")
        found = {(row["upstream"], row["model"]): row["status"] for row in json.loads(shown.stdout)}
        assert found == {("mistral", "ft:a"): "ok", ("mistral", "ft:b"): "missing", ("openai", "gpt-4o"): "ok"}
        assert "canary" not in shown.stdout
        (asked,) = openai.calls
        assert json.loads(asked.body)["max_completion_tokens"] == 1
        assert asked.header("authorization") == f"Bearer {KEY}2"
        assert "openai" in (asked.header("user-agent") or "").lower()
        assert all("mistral" in (call.header("user-agent") or "") for call in mistral.calls)
        assert {json.loads(call.body)["max_tokens"] for call in mistral.calls} == {1}


@pytest.mark.parametrize(
    ("fault", "status"),
    [("auth", "refused"), ("status=503", "silent"), ("status=422", "silent"), ("reset", "unreachable")],
)
async def test_model_that_does_not_answer_fails_without_the_key_in_sight(
    tmp_path: Path, fault: str, status: str
) -> None:
    faults = {"*": fault}
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL, faults=faults)) as mistral,
        Stub(StubConfig(faults=faults)) as openai,
    ):
        path = two_vendors(tmp_path / "p.yaml", mistral.url, openai.url)
        verdicts = await probe_models(load_policy(path, {"CANARY_KEY": KEY}))
    assert [verdict.status for verdict in verdicts] == [status] * 3
    assert all(verdict.fails for verdict in verdicts)
    assert "canary" not in str(verdicts)


async def test_upstream_without_a_key_of_its_own_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("""
environment: test
upstreams: {up: {base_url: "http://127.0.0.1:1"}}
agents: {qa_agent: {fine_tuned: "ft:a", fallback: b}}
""")
    verdicts = await probe_models(load_policy(path, {}))
    assert verdicts == [Verdict("up", model, "unknown", verdicts[0].detail) for model in ("ft:a", "b")]
    assert not any(verdict.fails for verdict in verdicts)

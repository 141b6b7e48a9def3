"""`splitlane check`: sound or not, with and without asking the upstreams."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli.live import Verdict, ask_upstreams
from proxy.policy.load import load_policy
from proxy.stub import Stub, StubConfig
from proxy.words import Dialect
from tests.cli.running import splitlane

KEY = "sk-canary-4711"
FT = "ft:open-mistral-7b:5010731d:20251031:ecc3829c"
ENVIRONMENTS = ("dev", "staging", "production", "demo")


def write(path: Path, *urls: str, key: str | None = "${CANARY_KEY}", **sections: Any) -> Path:
    """One agent; its fine-tune is at the first upstream, its baseline at the last."""
    keys = {} if key is None else {"api_key": key}
    config = {
        "environment": "test",
        "upstreams": {f"up{number}": {"base_url": url, **keys} for number, url in enumerate(urls)},
        "default_upstream": "up0",
        "agents": {
            "qa_agent": {
                "fine_tuned": {"upstream": "up0", "model": FT},
                "fallback": {"upstream": f"up{len(urls) - 1}", "model": "gpt-4o"},
                "rollout_percentage": 18.5,
            }
        },
        "prices": {"gpt-4o": {"input": 2.5, "output": 10}},
    } | sections
    path.write_text(yaml.safe_dump(config))
    return path


def test_shipped_policies_are_sound_without_any_variable_set() -> None:
    files = [f"policies/{name}.yaml" for name in ENVIRONMENTS]
    shown = splitlane("check", *files)
    assert (shown.returncode, shown.stderr) == (0, "")
    heads = [line for line in shown.stdout.splitlines() if not line.startswith(" ")]
    for line, file, name in zip(heads, files, ENVIRONMENTS, strict=True):
        assert re.fullmatch(rf"{file}: OK \({name}, [0-9a-f]{{12}}\)", line)
    assert "unset, and needed to serve: MISTRAL_API_KEY, SLACK_WEBHOOK_URL" in shown.stdout


def test_table_has_shares_models_and_prices_and_warnings_stand_above_it(tmp_path: Path) -> None:
    shown = splitlane("check", str(write(tmp_path / "p.yaml", "http://a", "http://b")))
    _, warning, unset, _, finetuned, baseline = shown.stdout.splitlines()
    assert warning.startswith("  warning: ")
    assert "agents.qa_agent.fine_tuned.model" in warning
    assert unset.endswith("CANARY_KEY")
    assert finetuned.split() == ["qa_agent", "18.5", "%", FT, "at", "up0", "no", "price", "no", "price"]
    assert baseline.split() == ["81.5", "%", "gpt-4o", "at", "up1", "2.5", "10"]


def test_bad_file_is_a_line_an_error_and_exit_2_and_the_good_one_is_told_too(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.yaml", "ftp://nowhere", limits={"drain": 25})
    good = write(tmp_path / "good.yaml", "http://a")
    shown = splitlane("check", str(bad), str(good), str(tmp_path / "none.yaml"), CANARY_KEY=KEY)
    assert shown.returncode == 2
    assert [re.split(r":\d|: ", line)[0] for line in shown.stderr.splitlines()] == [
        str(bad),
        str(bad),
        str(tmp_path / "none.yaml"),
    ]
    assert shown.stdout.startswith(f"{good}: OK")


def test_machines_get_all_files_in_one_list(tmp_path: Path) -> None:
    bad, good = tmp_path / "none.yaml", write(tmp_path / "good.yaml", "http://a")
    shown = splitlane("check", str(bad), str(good), "--json")
    assert (shown.returncode, shown.stderr) == (2, "")
    unusable, sound = json.loads(shown.stdout)
    assert (unusable["ok"], len(unusable["errors"])) == (False, 1)
    assert (sound["ok"], sound["errors"], sound["unset"]) == (True, [], ["CANARY_KEY"])
    assert sound["agents"]["qa_agent"]["fallback"]["price"]["output"] == 10
    assert sound["warnings"][0]["key"] == "agents.qa_agent.fine_tuned.model"


# --- --live -------------------------------------------------------------------------------------------


async def verdicts(path: Path) -> list[Verdict]:
    return await ask_upstreams(load_policy(path, {"CANARY_KEY": KEY}))


@pytest.mark.parametrize("dialect", Dialect)
async def test_models_are_there_or_missing(tmp_path: Path, dialect: Dialect) -> None:
    async with Stub(StubConfig(dialect=dialect, models=("gpt-4o",))) as stub:
        whole, finetuned, baseline = await verdicts(write(tmp_path / "p.yaml", stub.url))
        assert (whole, baseline) == (Verdict("up0", "", "ok", ""), Verdict("up0", "gpt-4o", "ok", ""))
        assert (finetuned.model, finetuned.status, finetuned.fails) == (FT, "missing", True)
        assert {call.header("authorization") for call in stub.calls} == {f"Bearer {KEY}"}


async def test_model_that_no_list_names_is_asked_for_by_its_id(tmp_path: Path) -> None:
    async with Stub() as stub:  # lists three models and knows every one
        found = await verdicts(write(tmp_path / "p.yaml", f"{stub.url}/prefix"))
        assert [verdict.status for verdict in found] == ["ok", "ok", "ok"]
        assert [call.path for call in stub.calls] == [
            "/prefix/v1/models",
            f"/prefix/v1/models/{FT}",
        ]


async def test_refused_key_fails_and_no_key_of_the_policys_own_does_not(tmp_path: Path) -> None:
    async with Stub(StubConfig(faults={"*": "auth"})) as stub:
        refused, *models = await verdicts(write(tmp_path / "p.yaml", stub.url))
        assert (refused.status, refused.fails) == ("refused", True)
        assert {model.status for model in models} == {"unknown"}
        unknown, *_ = await verdicts(write(tmp_path / "p.yaml", stub.url, key=None))
        assert (unknown.status, unknown.fails) == ("unknown", False)


@pytest.mark.parametrize("fault", ["status=500", "reset", "status=302"])
async def test_upstream_that_does_not_answer_is_out_of_reach_and_the_other_is_asked(tmp_path: Path, fault: str) -> None:
    async with Stub(StubConfig(faults={"*": fault})) as ill, Stub() as well:
        asked = await verdicts(write(tmp_path / "p.yaml", ill.url, well.url))
    found = {(verdict.upstream, verdict.model): verdict for verdict in asked}
    assert found["up0", ""].status == "unreachable"
    assert found["up1", "gpt-4o"].status == "ok"


async def test_upstream_without_a_list_is_asked_for_each_model(tmp_path: Path) -> None:
    async with Stub(StubConfig(faults={"": "status=404", FT: "status=404"})) as stub:
        whole, finetuned, baseline = await verdicts(write(tmp_path / "p.yaml", stub.url))
    assert (whole.status, finetuned.status, baseline.status) == ("unknown", "unknown", "ok")


async def test_closed_port_is_out_of_reach(tmp_path: Path) -> None:
    async with Stub() as stub:
        url = stub.url
    whole, *_ = await verdicts(write(tmp_path / "p.yaml", url))
    assert (whole.status, whole.detail) == ("unreachable", "cannot connect: Connection refused")


async def test_unreadable_certificate_authorities_are_out_of_reach(tmp_path: Path) -> None:
    upstreams = {"up0": {"base_url": "https://127.0.0.1:1", "ca_file": str(tmp_path / "none.pem")}}
    path = write(tmp_path / "p.yaml", "http://a", upstreams=upstreams)
    (whole,) = [verdict for verdict in await verdicts(path) if not verdict.model]
    assert (whole.status, whole.detail) == ("unreachable", "ca_file: No such file or directory")


@pytest.mark.parametrize(("models", "code"), [(None, 0), (("gpt-4o",), 1)])
async def test_live_exit_code_and_output_without_the_key(
    tmp_path: Path, models: tuple[str, ...] | None, code: int
) -> None:
    async with Stub(StubConfig(models=models)) as stub:
        path = str(write(tmp_path / "p.yaml", stub.url))
        for extra in ([], ["--json"]):
            shown = await asyncio.to_thread(splitlane, "check", path, "--live", *extra, CANARY_KEY=KEY)
            assert (shown.returncode, shown.stderr) == (code, "")
            assert "canary" not in shown.stdout
    assert json.loads(shown.stdout)[0]["ok"] == (code == 0)


def test_live_needs_the_real_key(tmp_path: Path) -> None:
    shown = splitlane("check", str(write(tmp_path / "p.yaml", "http://127.0.0.1:1")), "--live")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "CANARY_KEY" in shown.stderr

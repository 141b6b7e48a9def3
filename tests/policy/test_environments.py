"""The policy files that are shipped: each does what its name promises."""

from pathlib import Path

import pytest
import yaml

from proxy.policy.config import PolicyConfig
from proxy.policy.load import default_policy_path, load_policy, read_policy
from proxy.policy.problems import PolicyError

FOLDER = Path(__file__).parents[2] / "policies"
ENVIRONMENTS = ["dev", "staging", "production", "demo"]
SECRETS = {"MISTRAL_API_KEY": "sk-live", "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/x"}
BRIEF = {
    b"qa_agent": "ft:open-mistral-7b:5010731d:20251031:ecc3829c",
    b"content_agent": "ft:open-mistral-7b:5010731d:20251031:547960f9",
    b"legal_agent": "ft:open-mistral-7b:5010731d:20251031:eb2da6b7",
    b"support_agent": "ft:open-mistral-7b:5010731d:20251031:f997bebc",
    b"analyst_agent": "ft:open-mistral-7b:5010731d:20251031:9ae05c7c",
}


def config(name: str) -> PolicyConfig:
    return read_policy(FOLDER / f"{name}.yaml", SECRETS).config


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_file_names_its_environment_and_has_the_five_agents(name: str) -> None:
    policy = load_policy(FOLDER / f"{name}.yaml", SECRETS)
    assert policy.environment == name
    assert {agent: found.finetuned.model for agent, found in policy.agents.items()} == BRIEF
    for agent in policy.agents.values():
        assert agent.defaults == ((b'"max_tokens"', b"4096"), (b'"temperature"', b"0.7"))


@pytest.mark.parametrize(
    ("name", "percentage", "everyone"),
    [("dev", 0, False), ("staging", 100, True), ("production", 10, False), ("demo", 10, False)],
)
def test_file_splits_as_its_environment_should(name: str, percentage: float, everyone: bool) -> None:
    policy = load_policy(FOLDER / f"{name}.yaml", SECRETS)
    assert {agent.percentage for agent in policy.agents.values()} == {percentage}
    assert {agent.everyone for agent in policy.agents.values()} == {everyone}


@pytest.mark.parametrize("name", ["dev", "staging", "production"])
def test_baseline_is_the_open_model_on_mistral(name: str) -> None:
    policy = load_policy(FOLDER / f"{name}.yaml", SECRETS)
    for agent in policy.agents.values():
        assert (agent.baseline.model, agent.baseline.upstream.name) == ("open-mistral-7b", "mistral")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_nothing_in_the_file_calls_for_a_warning(name: str) -> None:
    assert read_policy(FOLDER / f"{name}.yaml", SECRETS).warnings == ()


def test_agents_upstream_and_their_prices_are_written_once() -> None:
    written = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
    assert written.keys() == {"_shared", *ENVIRONMENTS}
    assert len(written["_shared"]["agents"]) == 5
    for name in ENVIRONMENTS:
        assert written[name]["extends"] == "_shared.yaml"
    for name in ("dev", "staging", "production"):
        assert not written[name].keys() & {"agents", "prices", "default_upstream"}


def test_shared_file_alone_is_sound_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_policy(FOLDER / "_shared.yaml", SECRETS).agents.keys() == BRIEF.keys()
    monkeypatch.chdir(FOLDER.parent)
    with pytest.raises(PolicyError, match=r"expected one of: demo, dev, production, staging$"):
        default_policy_path({"GENESIS_ENV": "_shared"})


def test_dev_needs_no_secret_logs_everything_and_keeps_nothing() -> None:
    policy = load_policy(FOLDER / "dev.yaml", {})
    assert policy.default_upstream.authorization is None
    assert policy.observability.log_level == "debug"
    written = config("dev")
    assert written.store.url is None
    assert not written.observability.enabled
    assert not written.alerting.enabled


def test_dev_uses_the_key_where_there_is_one() -> None:
    assert load_policy(FOLDER / "dev.yaml", SECRETS).default_upstream.authorization == b"Bearer sk-live"


def test_production_falls_back_limits_costs_and_alerts() -> None:
    written = config("production")
    assert written.models.fallback_enabled
    assert (written.budgets.hourly_usd, written.budgets.daily_usd) == (20, 200)
    assert written.alerting.enabled
    assert written.alerting.slack_webhook is not None
    assert written.store.url is not None
    assert [step.percent for step in written.rollout.plan] == [10, 25, 50, 100]


@pytest.mark.parametrize(
    ("name", "missing"),
    [("staging", ["MISTRAL_API_KEY"]), ("production", ["MISTRAL_API_KEY", "SLACK_WEBHOOK_URL"])],
)
def test_missing_secrets_are_all_named_at_once(name: str, missing: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(FOLDER / f"{name}.yaml", {})
    assert [problem.value for problem in caught.value.problems] == [f"${{{name}}}" for name in missing]


def test_demo_calls_the_stub_only() -> None:
    policy = load_policy(FOLDER / "demo.yaml", {})
    assert {(up.host, up.port, up.tls) for up in policy.upstreams.values()} == {("127.0.0.1", 9000, False)}
    elsewhere = {"SPLITLANE_STUB_URL": "http://127.0.0.1:4711", "SPLITLANE_OPENAI_STUB_URL": "http://127.0.0.1:4712"}
    moved = load_policy(FOLDER / "demo.yaml", elsewhere)
    assert {name: up.port for name, up in moved.upstreams.items()} == {"mistral": 4711, "openai": 4712}
    assert config("demo").store.url is None

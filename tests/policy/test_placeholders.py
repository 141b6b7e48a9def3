"""Looking at a policy needs none of its secrets."""

from pathlib import Path

import pytest

from proxy.policy.load import load_policy, read_policy
from proxy.policy.placeholders import Placeholders

POLICIES = Path(__file__).parents[2] / "policies"


def test_unset_and_empty_variables_are_replaced_and_named_once() -> None:
    env = Placeholders({"MISTRAL_API_KEY": ""})
    read_policy(POLICIES / "production.yaml", env)
    read_policy(POLICIES / "staging.yaml", env)
    assert sorted(env.unset) == ["MISTRAL_API_KEY", "SLACK_WEBHOOK_URL"]


def test_set_variables_and_defaults_stay_what_they_are() -> None:
    env = Placeholders({"MISTRAL_API_KEY": "sk-live", "SLACK_WEBHOOK_URL": "https://hooks.example/x"})
    loaded = read_policy(POLICIES / "production.yaml", env)
    assert loaded.policy.default_upstream.authorization == b"Bearer sk-live"
    assert loaded.config.store.url is not None
    assert loaded.config.store.url.get_secret_value() == "sqlite:///data/splitlane.db"
    assert env.unset == []


@pytest.mark.parametrize("key", ["base_url", "api_key"])
def test_placeholder_does_for_addresses_and_keys(tmp_path: Path, key: str) -> None:
    values = {"base_url": "http://a"} | {key: "${UNSET_1}"}
    path = tmp_path / "p.yaml"
    path.write_text(f"environment: test\nupstreams: {{up: {values}}}\n")
    up = load_policy(path, Placeholders({})).upstreams["up"]
    assert "unset.invalid" in f"{up.host} {up.authorization!r}"

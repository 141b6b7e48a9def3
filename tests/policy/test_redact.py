"""The effective policy as it may be shown: everything in it, and no secret."""

import json
from pathlib import Path

from proxy.policy.load import read_policy
from proxy.policy.redact import redact

CANARY = "canary-4711"
DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
TEXT = f"""\
environment: "${{NAME}}"
upstreams:
  up: {{base_url: "https://${{HOST}}", api_key: "{CANARY}"}}
  other: {{base_url: "http://b", api_key: "${{file:key}}", timeouts: {{total: 2m}}}}
default_upstream: up
identity: {{agent: [key, "header:${{NAME}}"], keys: {{{DIGEST}: qa_agent}}}}
agents: {{qa_agent: {{fine_tuned: "ft:${{NAME}}", fallback: base, salt: "${{NAME}}"}}}}
ab_testing: {{rollout_percentage: "${{PART}}"}}
fallback: {{on: {{429: false}}}}
store: {{url: "postgresql://user:{CANARY}@db/x", unit_key: "{CANARY}-{"k" * 32}"}}
alerting: {{slack_webhook: "https://hooks.example/{CANARY}"}}
"""


def test_effective_policy_shows_defaults_and_hides_what_may_be_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    loaded = read_policy(path, {"NAME": CANARY, "HOST": f"{CANARY}.example", "PART": "17"})
    shown = json.loads(json.dumps(redact(loaded.config, loaded.expanded)))
    assert CANARY not in json.dumps(shown)
    assert DIGEST not in json.dumps(shown)
    assert shown["environment"] == "***"
    assert shown["upstreams"]["up"]["base_url"] == "***"
    assert shown["upstreams"]["other"]["base_url"] == "http://b"
    assert shown["upstreams"]["other"]["timeouts"]["total"] == 120
    assert shown["identity"]["agent"] == ["key", "***"]
    assert shown["identity"]["keys"] == {"***": ["qa_agent"]}
    assert shown["agents"]["qa_agent"]["fine_tuned"] == "***"
    assert shown["agents"]["qa_agent"]["fallback"]["model"] == "base"
    assert shown["ab_testing"]["rollout_percentage"] == "***"
    assert shown["fallback"]["on"]["429"] is False
    assert shown["limits"]["max_in_flight"] == 1024
    assert (shown["store"]["url"], shown["alerting"]["slack_webhook"]) == ("***", "***")

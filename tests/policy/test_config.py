# ruff: noqa: E501 – the policy file as the design writes it

import json
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from proxy.policy.config import PolicyConfig
from proxy.policy.config_prices import CachedPriceConfig
from proxy.words import Dialect

from .samples import AGENTS, UPSTREAMS, parse, problem, problems

# DESIGN §3.3, key for key; `rollout` is tested in test_config_rollout.
WHOLE = """\
environment: production
upstreams:
  mistral:
    base_url: https://api.mistral.ai          # scheme://host[:port][/prefix], no /v1
    api_key: ${MISTRAL_API_KEY}               # left out: the client's Authorization is forwarded
    dialect: mistral
    timeouts: {connect: 2s, first_byte: 20s, first_content: 30s, idle: 30s, total: 120s, stream: 15m}
    pool: {max_connections: 512, keepalive: 30s, wait: 1s}
    ca_file: /etc/ssl/internal.pem
  openai: {base_url: https://api.openai.com, api_key: "${OPENAI_API_KEY}", dialect: openai}
default_upstream: mistral
identity: {agent: [header:x-agent], user: [header:x-user-id], on_missing_user: baseline, allow_override: false, forward: false}
models: {use_finetuned: true, fallback_enabled: true}
agents:
  qa_agent:
    fine_tuned: "ft:open-mistral-7b:5010731d:20251031:ecc3829c"
    fallback: {upstream: openai, model: gpt-4o}
    max_tokens: 4096
    temperature: 0.7
    rollout_percentage: 10
    salt: autumn
ab_testing: {enabled: true, rollout_percentage: 10}
fallback: {on: {connect: true, timeout: true, 429: true, 5xx: true, model_gone: true, bad_body: true, empty: true, context_length: false,
           auth: false},
           retry: {finetuned: 0, baseline: 1, max_wait: 2s}, buffer_stream: false, retry_budget: {ratio: 0.2, min: 3},
           breaker: {failures: 5, window: 30s, open: 30s}}
budgets: {hourly_usd: 20, daily_usd: 200, on_exceeded: baseline}
prices: {open-mistral-7b: {input: 0.25, output: 0.25}, "ft:open-mistral-7b:*": {input: 0.75, output: 0.75}}
store: {url: "sqlite:///data/splitlane.db", retention: 30d}
observability: {enabled: true, export_endpoint: "http://prod-otel-collector:4318", log_level: info}
alerting: {enabled: true, slack_webhook: "${SLACK_WEBHOOK_URL}"}
limits: {max_in_flight: 1024, max_body: 32MiB, max_buffered: 512MiB, request_headers: 10s, request_body: 30s, write_stall: 60s, drain: 25s, drain_delay: 0s}
"""
SECRETS = {
    "MISTRAL_API_KEY": "sk-mistral-secret",
    "OPENAI_API_KEY": "sk-openai-secret",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/secret",
}


def test_whole_file_of_the_design_is_taken_as_written() -> None:
    config = parse(WHOLE, SECRETS)
    assert config.upstreams["mistral"].timeouts.stream == 900
    assert config.upstreams["mistral"].dialect is Dialect.MISTRAL
    assert config.upstreams["openai"].api_key is not None
    assert config.agents["qa_agent"].fallback.upstream == "openai"
    assert config.fallback.on.rate_limited
    assert config.budgets.daily_usd == 200
    assert config.prices["ft:open-mistral-7b:*"].output == 0.75
    assert config.store.retention == 30 * 86_400
    assert config.limits.max_buffered == 512 << 20


def test_defaults_are_those_the_design_writes() -> None:
    whole, bare = parse(WHOLE, SECRETS), parse(UPSTREAMS)
    assert bare.upstreams["mistral"].timeouts == whole.upstreams["mistral"].timeouts
    assert bare.upstreams["mistral"].pool == whole.upstreams["mistral"].pool
    assert bare.upstreams["mistral"].ca_file is None
    assert bare.models == whole.models
    assert bare.ab_testing == whole.ab_testing
    assert bare.fallback == whole.fallback
    assert bare.limits == whole.limits
    assert bare.environment == whole.environment
    assert bare.observability.log_level == "info"
    assert bare.budgets.on_exceeded == "baseline"


def test_what_no_default_can_know_is_off_when_left_out() -> None:
    bare = parse(UPSTREAMS)
    assert bare.budgets.hourly_usd is None
    assert bare.store.url is None
    assert bare.alerting.slack_webhook is None
    assert bare.observability.export_endpoint is None
    assert (bare.agents, bare.prices) == ({}, {})


def test_section_with_some_keys_keeps_the_defaults_of_the_others() -> None:
    config = parse(f"{UPSTREAMS}fallback: {{on: {{5xx: false}}, breaker: {{failures: 9}}}}\n")
    assert (config.fallback.on.server_error, config.fallback.on.rate_limited) == (False, True)
    assert (config.fallback.breaker.failures, config.fallback.breaker.open) == (9, 30.0)


def test_secrets_are_in_no_repr_and_no_dump() -> None:
    config = parse(WHOLE, SECRETS)
    for text in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        for secret in SECRETS.values():
            assert secret not in text


def test_configuration_cannot_be_changed() -> None:
    config = parse(UPSTREAMS)
    with pytest.raises(ValidationError, match="frozen"):
        config.environment = "other"


def test_every_section_refuses_unknown_keys_and_hides_inputs() -> None:
    def sections(kind: object) -> set[type[BaseModel]]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = kind.model_fields.values()
            return {kind}.union(*(sections(field.annotation) for field in fields))
        return set().union(*map(sections, get_args(kind)))

    found = sections(PolicyConfig)
    assert len(found) > 30
    for section in found:
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["frozen"]
        assert section.model_config["hide_input_in_errors"]


def test_probe_more_often_than_each_second_is_refused() -> None:
    (found,) = problems(f"{UPSTREAMS}observability: {{probe: {{every: 999ms}}}}\n")
    assert (found.key, found.expected) == ("observability.probe.every", "a duration of at least 1s")


def test_file_without_upstreams_is_refused() -> None:
    assert [found.key for found in problems("environment: dev\n")] == ["upstreams", "default_upstream"]
    assert [found.key for found in problems("upstreams: {}\n")] == ["upstreams", "default_upstream"]


def test_only_upstream_is_the_default() -> None:
    assert parse(UPSTREAMS).default_upstream == "mistral"


def test_default_upstream_must_be_named_where_there_are_two() -> None:
    found = problem("upstreams: {a: {base_url: 'http://a'}, b: {base_url: 'http://b'}}\n")
    assert str(found) == ("policies/x.yaml:1:1: default_upstream: got nothing, expected the name of an upstream (a, b)")


def test_unknown_default_upstream_is_refused() -> None:
    found = problem(f"{UPSTREAMS}default_upstream: mistrall\n")
    assert str(found) == (
        'policies/x.yaml:3:1: default_upstream: got "mistrall", expected the name of an upstream (mistral)'
    )


def test_agent_on_an_unknown_upstream_is_refused() -> None:
    found = problem(
        f"""\
{UPSTREAMS}agents:
  qa_agent:
    fine_tuned: ft
    fallback:
      upstream: nowhere
      model: base
"""
    )
    assert str(found) == (
        'policies/x.yaml:7:7: agents.qa_agent.fallback.upstream: got "nowhere", '
        "expected the name of an upstream (mistral)"
    )


@pytest.mark.parametrize("url", ["https://api.mistral.ai/v1", "https://api.mistral.ai/v1/"])
def test_base_url_with_v1_is_refused_with_the_remedy(url: str) -> None:
    found = problem(f"upstreams: {{m: {{base_url: '{url}'}}}}\n")
    assert found.key == "upstreams.m.base_url"
    assert "leave it out" in found.expected


def test_base_url_with_a_password_is_refused_and_hidden() -> None:
    assert problem("upstreams: {m: {base_url: 'https://u:hunter2@h'}}\n").value == "***"


def test_empty_default_of_an_api_key_leaves_it_out() -> None:
    text = "upstreams: {m: {base_url: 'https://h', api_key: '${K:-}'}}\n"
    assert parse(text).upstreams["m"].api_key is None
    assert parse(text, {"K": "sk"}).upstreams["m"].api_key is not None


@pytest.mark.parametrize("value", ["7", "[a]", "true"])
def test_target_that_is_neither_id_nor_mapping_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}agents: {{qa: {{fine_tuned: {value}, fallback: b}}}}\n")
    assert (found.key, found.expected) == (
        "agents.qa.fine_tuned",
        "a model's id, or {upstream: NAME, model: ID}",
    )


def test_agent_without_its_models_is_refused() -> None:
    assert [found.key for found in problems(f"{UPSTREAMS}agents: {{qa: {{}}}}\n")] == [
        "agents.qa.fine_tuned",
        "agents.qa.fallback",
    ]


def test_unleash_without_the_flags_group_id_is_refused() -> None:
    found = problem(f"{UPSTREAMS}compat: unleash\n{AGENTS}")
    assert (found.key, found.value) == ("agents.qa_agent.salt", "nothing")
    assert "groupId" in found.expected


@pytest.mark.parametrize(
    "text",
    [
        "agents: {qa: {fine_tuned: a, fallback: b, compat: unleash, salt: g, rollout_percentage: 12.5}}\n",
        "compat: unleash\nagents: {qa: {fine_tuned: a, fallback: b, salt: g, rollout_percentage: 12.5}}\n",
        "compat: unleash\nab_testing: {rollout_percentage: 12.5}\nagents: {qa: {fine_tuned: a, fallback: b, salt: g}}\n",
    ],
)
def test_unleash_with_a_fraction_of_a_per_cent_is_refused(text: str) -> None:
    assert problem(UPSTREAMS + text).key == "agents.qa.compat"


def test_agent_may_stay_out_of_the_policys_compatibility() -> None:
    config = parse(f"{UPSTREAMS}compat: unleash\nagents: {{qa: {{fine_tuned: a, fallback: b, compat: native}}}}\n")
    assert config.agents["qa"].compat == "native"


@pytest.mark.parametrize("retry", ["{finetuned: 3}", "{baseline: -1}", "{baseline: 1.5}"])
def test_more_than_two_retries_are_refused(retry: str) -> None:
    assert problem(f"{UPSTREAMS}fallback: {{retry: {retry}}}\n").expected == "a whole number from 0 to 2"


@pytest.mark.parametrize("budget", ["{hourly_usd: 0}", "{daily_usd: -1}", "{hourly_usd: much}"])
def test_budget_that_is_no_amount_is_refused(budget: str) -> None:
    assert problem(f"{UPSTREAMS}budgets: {budget}\n").expected.startswith("a number > 0")


def test_price_of_a_pattern_with_a_star_inside_is_refused() -> None:
    found = problem(f"{UPSTREAMS}prices: {{'ft:*:x': {{input: 1, output: 1}}}}\n")
    assert str(found).endswith(
        'prices: got the key "ft:*:x", expected a model\'s id, or the start of one followed by a single *'
    )


def test_buffer_smaller_than_one_body_is_refused() -> None:
    assert problem(f"{UPSTREAMS}limits: {{max_buffered: 1MiB}}\n").key == "limits.max_buffered"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("identity: {on_missing_user: guess}", "identity.on_missing_user", "baseline, random or reject"),
        ("budgets: {on_exceeded: panic}", "budgets.on_exceeded", "baseline, reject or warn"),
        ("observability: {log_level: loud}", "observability.log_level", "debug, info, warning or error"),
        ("compat: split", "compat", "native or unleash"),
    ],
)
def test_word_outside_its_list_is_refused_with_the_list(text: str, key: str, expected: str) -> None:
    found = problem(f"{UPSTREAMS}{text}\n")
    assert (found.key, found.expected) == (key, expected)


def test_listeners_may_not_share_an_address() -> None:
    found = problem(f"{UPSTREAMS}listen: {{data: '127.0.0.1:8081', admin: '127.0.0.1:8081'}}\n")
    assert (found.key, found.expected) == ("listen.admin", "another address than listen.data")
    assert parse(f"{UPSTREAMS}listen: {{data: ':0', admin: ':0'}}\n").listen.admin == ":0"


@pytest.mark.parametrize(
    ("cached", "key", "expected"),
    [
        ("x", "", "a number from 0 to 1e+06, or {openai: NUMBER, mistral: NUMBER}"),
        ("-1", "", "a number from 0 to 1e+06, or {openai: NUMBER, mistral: NUMBER}"),
        ("{mistral: -1}", ".mistral", "a number from 0 to 1e+06"),
        ("{mistrall: 1}", ".mistrall", "one of: openai, mistral; did you mean mistral?"),
    ],
)
def test_wrong_cached_price_is_one_problem(cached: str, key: str, expected: str) -> None:
    found = problem(f"{UPSTREAMS}prices: {{m: {{input: 1, output: 1, cached_input: {cached}}}}}\n")
    assert (found.key, found.expected) == (f"prices.m.cached_input{key}", expected)


def test_every_dialect_may_have_its_cached_price() -> None:
    assert set(CachedPriceConfig.model_fields) == {dialect.value for dialect in Dialect}


def test_json_dump_is_written_as_a_person_would() -> None:
    dumped = parse(UPSTREAMS).model_dump(mode="json", by_alias=True)
    assert dumped["limits"]["max_body"] == "32MiB"
    assert dumped["limits"]["drain"] == "25s"
    assert dumped["upstreams"]["mistral"]["timeouts"]["stream"] == "15m"
    assert dumped["rollout"]["gates"]["success"]["margin"] == "-1pp"
    assert dumped["rollout"]["brake"]["floor"] == "2%"
    assert dumped["fallback"]["on"]["429"] is True


def test_json_dump_is_a_policy_again() -> None:
    config = parse(WHOLE, SECRETS)
    dumped = config.model_dump(mode="json", by_alias=True, exclude={"upstreams", "store", "alerting"})
    again = parse(
        json.dumps(dumped | {"upstreams": {"mistral": {"base_url": "http://h"}, "openai": {"base_url": "http://h"}}})
    )
    kept = {"upstreams", "store", "alerting"}
    assert again.model_dump(exclude=kept) == config.model_dump(exclude=kept)

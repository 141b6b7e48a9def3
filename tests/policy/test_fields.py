"""The value types, each through a key of the policy that has it."""

import pytest

from .samples import UPSTREAMS, parse, problem


@pytest.mark.parametrize("value", ["abc", "'4096'", "4096.0", "true", "0", "-1", "null-", "[1]"])
def test_max_tokens_other_than_a_positive_whole_number_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}agents: {{qa: {{fine_tuned: a, fallback: b, max_tokens: {value}}}}}\n")
    assert (found.key, found.expected) == ("agents.qa.max_tokens", "a whole number > 0")


@pytest.mark.parametrize("value", ["-0.1", "2.1", "warm", "true", ".nan", "1e999"])
def test_temperature_outside_0_to_2_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}agents: {{qa: {{fine_tuned: a, fallback: b, temperature: {value}}}}}\n")
    assert (found.key, found.expected) == ("agents.qa.temperature", "a number from 0 to 2")


@pytest.mark.parametrize("value", ["-1", "100.01", "101", "10.005", "0.001", "10%", "true", "'10'", ".inf"])
def test_percentage_outside_0_to_100_or_finer_than_a_bucket_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}ab_testing: {{rollout_percentage: {value}}}\n")
    assert found.key == "ab_testing.rollout_percentage"
    assert found.expected == "a percentage from 0 to 100 in steps of 0.01"


@pytest.mark.parametrize(
    ("value", "parsed"), [("0", 0.0), ("100", 100.0), ("0.01", 0.01), ("12.34", 12.34), ("33.33", 33.33)]
)
def test_percentage_in_steps_of_a_bucket_is_taken(value: str, parsed: float) -> None:
    config = parse(f"{UPSTREAMS}ab_testing: {{rollout_percentage: {value}}}\n")
    assert config.ab_testing.rollout_percentage == parsed


@pytest.mark.parametrize("value", ["yes", "on", "1", "'true'", "null"])
def test_switch_other_than_true_or_false_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}models: {{use_finetuned: {value}}}\n")
    assert found.expected == "true or false"


@pytest.mark.parametrize("value", ["10", "2.5", "'10'", "10 parsecs", "true", "[10s]", "0s", "-1s"])
def test_time_out_without_unit_or_length_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}limits: {{request_body: {value}}}\n")
    assert found.key == "limits.request_body"
    assert found.expected.startswith("a duration")


def test_time_that_may_be_nothing_is_taken_as_zero() -> None:
    assert parse(f"{UPSTREAMS}limits: {{drain_delay: 0s}}\n").limits.drain_delay == 0


def test_size_of_nothing_is_refused() -> None:
    assert problem(f"{UPSTREAMS}limits: {{max_body: 0B}}\n").expected == "a size above zero"


@pytest.mark.parametrize(("value", "expected"), [("-5%", "a per cent from 0% to 100%"), ("5", "a per cent, such as")])
def test_share_outside_0_to_100_per_cent_is_refused(value: str, expected: str) -> None:
    found = problem(f"{UPSTREAMS}rollout: {{health: {{missing_users: {{max: {value}}}}}}}\n")
    assert found.expected.startswith(expected)


@pytest.mark.parametrize("value", ["33554432", "32", "32mb", "-1MiB"])
def test_size_without_unit_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}limits: {{max_body: {value}}}\n")
    assert (found.key, found.expected[:20]) == ("limits.max_body", "a size with its unit")


@pytest.mark.parametrize(
    ("text", "env", "value"), [("${P}", {"P": "25"}, 25.0), ("${P:-12.5}", {}, 12.5), ("'${P:-7}'", {}, 7.0)]
)
def test_expanded_text_may_stand_for_a_number(text: str, env: dict[str, str], value: float) -> None:
    config = parse(f"{UPSTREAMS}ab_testing:\n  rollout_percentage: {text}\n", env)
    assert config.ab_testing.rollout_percentage == value


def test_expanded_text_may_stand_for_a_switch_and_stays_text_where_text_is_wanted() -> None:
    config = parse(f"{UPSTREAMS}environment: ${{E}}\nmodels:\n  use_finetuned: ${{U}}\n", {"E": "2031", "U": "false"})
    assert (config.environment, config.models.use_finetuned) == ("2031", False)


@pytest.mark.parametrize("value", ['"a\\nb"', '"a\\0b"', '"a\\u0085b"', '"\\u2028"', '""', "x" * 257])
def test_model_with_control_characters_or_of_no_sensible_length_is_refused(value: str) -> None:
    found = problem(f"{UPSTREAMS}agents: {{qa: {{fine_tuned: {value}, fallback: b}}}}\n")
    assert found.key == "agents.qa.fine_tuned"
    assert found.expected == "text of 1 to 256 characters without control characters"
    assert "\n" not in str(found)


def test_text_that_is_no_utf_8_in_the_environment_is_refused() -> None:
    found = problem(f"{UPSTREAMS}agents: {{qa: {{fine_tuned: '${{M}}', fallback: b}}}}\n", {"M": "m\udcff"})
    assert (found.key, found.value) == ("agents.qa.fine_tuned", "***")


@pytest.mark.parametrize("key", ["sk live", "sk\r\nx: y", "sk\0", "sk-é", " "])
def test_api_key_that_would_break_a_header_is_refused_and_hidden(key: str) -> None:
    found = problem(
        "upstreams: {m: {base_url: 'https://h', api_key: '${K}'}}\n",
        {"K": key},
    )
    assert (found.key, found.value) == ("upstreams.m.api_key", "***")
    assert found.expected == "a key of visible ASCII characters, without spaces and line breaks"


def test_api_key_that_is_no_utf_8_in_the_environment_is_refused_and_hidden() -> None:
    found = problem("upstreams: {m: {base_url: 'https://h', api_key: '${K}'}}\n", {"K": "sk\udcff"})
    assert (found.key, found.value) == ("upstreams.m.api_key", "***")


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "sqlite://x", "/data/x.db", "postgresql://u:hunter2@h /d"])
def test_store_url_of_another_kind_is_refused_and_hidden(url: str) -> None:
    found = problem(f"{UPSTREAMS}store: {{url: '{url}'}}\n")
    assert str(found).endswith("store.url: got ***, expected sqlite:///FILE or postgresql://…")


@pytest.mark.parametrize(
    "url", ["sqlite:///data/x.db", "sqlite:////var/x.db", "postgresql://u:p@h/d", "postgres://h/d"]
)
def test_store_url_is_taken(url: str) -> None:
    config = parse(f"{UPSTREAMS}store: {{url: '{url}', unit_key: {'k' * 32}}}\n")
    assert config.store.url is not None
    assert config.store.url.get_secret_value() == url
    assert url not in repr(config)


def test_server_without_a_unit_key_is_refused_because_proxies_must_agree_on_it() -> None:
    found = problem(f"{UPSTREAMS}store: {{url: 'postgresql://u:p@h/d'}}\n")
    assert (found.key, found.expected) == (
        "store.unit_key",
        "a key, because proxies that share a server must agree on it",
    )


@pytest.mark.parametrize("length", [31, 65])
def test_unit_key_that_is_too_short_or_too_long_is_refused_and_hidden(length: int) -> None:
    found = problem(f"{UPSTREAMS}store: {{url: 'sqlite:///x', unit_key: {'k' * length}}}\n")
    assert (found.key, found.value) == ("store.unit_key", "***")
    assert found.expected.startswith("a key of 32 to 64 characters")


def test_slack_webhook_that_is_no_url_is_refused_and_hidden() -> None:
    found = problem(f"{UPSTREAMS}alerting: {{slack_webhook: T000/B000/secret}}\n")
    assert (found.key, found.value) == ("alerting.slack_webhook", "***")


def test_export_endpoint_that_is_no_url_is_refused() -> None:
    found = problem(f"{UPSTREAMS}observability: {{export_endpoint: 'collector:4318'}}\n")
    assert (found.key, found.value) == ("observability.export_endpoint", '"collector:4318"')


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "é", "a:b"])
def test_agent_name_outside_its_charset_is_refused(name: str) -> None:
    found = problem(f"{UPSTREAMS}agents: {{'{name}': {{fine_tuned: a, fallback: b}}}}\n")
    assert found.key == "agents"
    assert found.value.startswith("the key ")
    assert found.expected.startswith("a name of 1 to 64")


def test_agent_called_other_is_refused() -> None:
    found = problem(f"{UPSTREAMS}agents: {{other: {{fine_tuned: a, fallback: b}}}}\n")
    assert found.expected.startswith("another name")

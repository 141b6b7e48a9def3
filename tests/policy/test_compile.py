import pytest

from proxy.policy.snapshot import Address, AgentPolicy, ListenPolicy, Price, ProbePolicy, Source
from proxy.words import Dialect, Failure

from .samples import AGENTS, UPSTREAMS, compiled
from .test_config import SECRETS, WHOLE

F = Failure


def agent(text: str) -> AgentPolicy:
    return compiled(UPSTREAMS + text).agents[b"qa"]


def test_upstream_is_taken_apart_for_the_wire() -> None:
    upstream = compiled(
        "upstreams: {gw: {base_url: 'https://GW:8443/llm/', api_key: sk-1, dialect: mistral, ca_file: /ca.pem}}\n"
    ).upstreams["gw"]
    assert (upstream.name, upstream.tls, upstream.host, upstream.port) == ("gw", True, "gw", 8443)
    assert (upstream.prefix, upstream.host_header) == (b"/llm", b"gw:8443")
    assert upstream.authorization == b"Bearer sk-1"
    assert (upstream.dialect, upstream.ca_file) == (Dialect.MISTRAL, "/ca.pem")
    assert "sk-1" not in repr(upstream)


def test_upstream_without_a_key_forwards_the_clients() -> None:
    assert compiled(UPSTREAMS).default_upstream.authorization is None


def test_upstreams_of_equal_text_are_equal_and_hashable() -> None:
    one, other = compiled(UPSTREAMS), compiled(UPSTREAMS + AGENTS)
    assert {one.default_upstream, other.default_upstream} == {one.default_upstream}
    rotated = compiled("upstreams: {mistral: {base_url: 'https://api.mistral.ai', dialect: mistral, api_key: k}}\n")
    assert rotated.default_upstream != one.default_upstream


def test_targets_are_on_the_default_upstream_unless_they_say_otherwise() -> None:
    policy = compiled(WHOLE, SECRETS)
    qa = policy.agents[b"qa_agent"]
    assert qa.finetuned.upstream is policy.default_upstream is policy.upstreams["mistral"]
    assert qa.baseline.upstream is policy.upstreams["openai"]
    assert qa.baseline.model_json == b'"gpt-4o"'


def test_probe_is_off_without_a_period() -> None:
    assert compiled(UPSTREAMS).probe is None
    assert compiled(f"{UPSTREAMS}observability: {{probe: {{timeout: 9s}}}}\n").probe is None
    text = f"{UPSTREAMS}models: {{use_finetuned: false}}\nobservability: {{probe: {{every: 60s}}}}\n"
    assert compiled(text).probe == ProbePolicy(every=60.0, timeout=5.0, daily_usd=0.1, finetuned=False)


def test_model_is_quoted_as_json() -> None:
    assert agent("agents: {qa: {fine_tuned: 'a\"\\é', fallback: b}}\n").finetuned.model_json == '"a\\"\\\\é"'.encode()


@pytest.mark.parametrize(
    ("text", "percentage", "everyone"),
    [
        ("models: {use_finetuned: false}\nab_testing: {enabled: true, rollout_percentage: 50}", 0, False),
        ("models: {use_finetuned: false}\nab_testing: {enabled: false}", 0, False),
        ("ab_testing: {enabled: false, rollout_percentage: 50}", 100, True),
        ("ab_testing: {enabled: true, rollout_percentage: 50}", 50, False),
        ("ab_testing: {enabled: true, rollout_percentage: 100}", 100, False),
        ("environment: dev", 10, False),
    ],
)
def test_three_switches_decide_the_percentage(text: str, percentage: float, everyone: bool) -> None:
    found = agent(f"agents: {{qa: {{fine_tuned: a, fallback: b}}}}\n{text}\n")
    assert (found.percentage, found.everyone) == (percentage, everyone)
    assert found.threshold == percentage * 100


@pytest.mark.parametrize(
    ("switches", "percentage"),
    [("{enabled: true, rollout_percentage: 10}", 33.33), ("{enabled: false}", 100.0)],
)
def test_agents_own_percentage_counts_while_there_is_an_experiment(switches: str, percentage: float) -> None:
    found = agent(
        f"agents: {{qa: {{fine_tuned: a, fallback: b, rollout_percentage: 33.33}}}}\nab_testing: {switches}\n"
    )
    assert found.percentage == percentage


@pytest.mark.parametrize("hundredths", [0, 1, 29, 57, 113, 1001, 3333, 5799, 9999, 10_000])
def test_threshold_is_the_percentage_in_buckets(hundredths: int) -> None:
    found = agent(f"agents: {{qa: {{fine_tuned: a, fallback: b, rollout_percentage: {hundredths / 100}}}}}\n")
    assert found.threshold == hundredths


def test_salt_is_agent_and_fine_tune_unless_pinned() -> None:
    assert agent("agents: {qa: {fine_tuned: 'ft:1', fallback: b}}\n").salt == "qa/ft:1"
    assert agent("agents: {qa: {fine_tuned: 'ft:1', fallback: b, salt: autumn}}\n").salt == "autumn"


def test_unleash_is_the_policys_unless_the_agent_says_otherwise() -> None:
    policy = compiled(
        f"""\
{UPSTREAMS}compat: unleash
agents:
  a: {{fine_tuned: x, fallback: y, salt: group}}
  b: {{fine_tuned: x, fallback: y, compat: native}}
"""
    )
    assert (policy.agents[b"a"].unleash, policy.agents[b"a"].salt) == (True, "group")
    assert (policy.agents[b"b"].unleash, policy.agents[b"b"].salt) == (False, "b/x")


def test_nothing_is_copied_unless_a_share_is_asked_for_and_its_price_known() -> None:
    priced = "prices: {x: {input: 1, output: 1}}\n"
    for shadow, more in (
        ("{}", priced),
        ("{percentage: 0, daily_usd: 1}", priced),
        ("{percentage: 5}", ""),
        ("{percentage: 5}", f"{priced}models: {{use_finetuned: false}}\n"),
    ):
        assert agent(f"agents: {{qa: {{fine_tuned: x, fallback: y, shadow: {shadow}}}}}\n{more}").shadow is None
    found = agent(f"agents: {{qa: {{fine_tuned: x, fallback: y, shadow: {{percentage: 2.5, timeout: 9s}}}}}}\n{priced}")
    copied = found.shadow
    assert copied is not None
    assert (copied.percentage, copied.threshold, copied.salt, copied.hashed) == (
        2.5,
        250,
        "shadow/qa/x",
        "shadow/qa/x:",
    )
    assert (copied.max_in_flight, copied.daily_usd) == (4, 5.0)
    times, of_upstream = copied.timeouts, found.finetuned.upstream.timeouts
    assert (times.first_byte, times.idle, times.total) == (9.0, 9.0, 9.0)
    assert times.connect == of_upstream.connect


def test_params_the_client_may_leave_out_are_json_ready_to_splice() -> None:
    both = agent("agents: {qa: {fine_tuned: a, fallback: b, max_tokens: 4096, temperature: 0.7}}\n")
    assert both.defaults == ((b'"max_tokens"', b"4096"), (b'"temperature"', b"0.7"))
    one = agent("agents: {qa: {fine_tuned: a, fallback: b, temperature: 0}}\n")
    assert one.defaults == ((b'"temperature"', b"0.0"),)
    assert agent("agents: {qa: {fine_tuned: a, fallback: b}}\n").defaults == ()


def test_fallback_is_on_for_what_the_design_says() -> None:
    fallback = compiled(UPSTREAMS).fallback
    assert fallback.enabled
    assert set(Failure) - fallback.on == {
        F.AUTH,
        F.CONTEXT_LENGTH,
        F.CONTENT_FILTER,
        F.BAD_REQUEST,
        F.CLIENT_GONE,
        F.SHUTDOWN,
    }
    assert (fallback.retry_finetuned, fallback.retry_baseline, fallback.max_wait) == (0, 1, 2.0)
    assert (fallback.retry_budget_ratio, fallback.retry_budget_min) == (0.2, 3)
    assert (fallback.breaker.failures, fallback.breaker.window, fallback.breaker.open) == (5, 30.0, 30.0)


@pytest.mark.parametrize(
    ("switch", "failures"),
    [
        ("connect", {F.CONNECT, F.CONNECT_TIMEOUT, F.RESET, F.OVERLOAD}),
        ("timeout", {F.FIRST_BYTE_TIMEOUT, F.FIRST_CONTENT_TIMEOUT, F.IDLE_TIMEOUT, F.TOTAL_TIMEOUT}),
        ("429", {F.RATE_LIMITED}),
        ("5xx", {F.SERVER_ERROR, F.STREAM_ERROR, F.STREAM_TRUNCATED}),
        ("model_gone", {F.MODEL_GONE}),
        ("bad_body", {F.BAD_BODY}),
        ("empty", {F.EMPTY}),
    ],
)
def test_switch_turns_its_failures_off(switch: str, failures: set[Failure]) -> None:
    default = compiled(UPSTREAMS).fallback.on
    assert default - compiled(f"{UPSTREAMS}fallback: {{on: {{{switch}: false}}}}\n").fallback.on == failures


@pytest.mark.parametrize(("switch", "failure"), [("auth", F.AUTH), ("context_length", F.CONTEXT_LENGTH)])
def test_switch_turns_its_failure_on(switch: str, failure: Failure) -> None:
    assert failure in compiled(f"{UPSTREAMS}fallback: {{on: {{{switch}: true}}}}\n").fallback.on


def test_our_own_refusals_fall_back_with_every_switch_off() -> None:
    names = ["connect", "timeout", "429", "5xx", "model_gone", "bad_body", "empty", "context_length", "auth"]
    off = ", ".join(f"{name}: false" for name in names)
    assert compiled(f"{UPSTREAMS}fallback: {{on: {{{off}}}}}\n").fallback.on == {F.BREAKER_OPEN, F.BRAKE, F.BUDGET}


def test_models_switch_turns_all_fallback_off() -> None:
    assert not compiled(f"{UPSTREAMS}models: {{fallback_enabled: false}}\n").fallback.enabled


def test_identity_headers_are_those_of_both_lists_and_the_override() -> None:
    policy = compiled(f"{UPSTREAMS}identity: {{agent: [header:X-Team, path], user: [header:x-uid, 'baggage:u']}}\n")
    assert policy.identity.headers == {b"x-team", b"x-uid", b"x-splitlane-variant"}
    assert policy.identity.agent == (Source("header", b"x-team"), Source("path", b""))
    assert policy.identity.user == (Source("header", b"x-uid"), Source("baggage", b"u"))


def test_keys_become_agents_in_bytes() -> None:
    digest = "0" * 64
    policy = compiled(f"{UPSTREAMS}{AGENTS}identity: {{agent: [key], keys: {{'{digest}': qa_agent}}}}\n")
    assert policy.identity.keys == {digest: b"qa_agent"}


def test_limits_and_log_level_are_taken_over() -> None:
    policy = compiled(f"{UPSTREAMS}limits: {{drain: 5s}}\nobservability: {{log_level: debug}}\n")
    assert (policy.limits.max_body, policy.limits.drain, policy.limits.max_in_flight) == (32 << 20, 5.0, 1024)
    assert (policy.observability.log_level, policy.environment, policy.hash) == ("debug", "production", "0123456789ab")


def test_listeners_are_on_loopback_unless_the_policy_says_otherwise() -> None:
    assert compiled(UPSTREAMS).listen == ListenPolicy(Address("127.0.0.1", 8080), Address("127.0.0.1", 8081))
    moved = compiled(f"{UPSTREAMS}listen: {{data: ':80', admin: '[::1]:81'}}\n").listen
    assert moved == ListenPolicy(Address("0.0.0.0", 80), Address("::1", 81))


PATTERNS = "'*': {input: 1, output: 1}, 'ft:*': {input: 2, output: 2}, 'ft:a:*': {input: 3, output: 3}"


@pytest.mark.parametrize(
    ("prices", "dollars"),
    [
        (PATTERNS, 3),
        (f"{PATTERNS}, 'ft:a:b': {{input: 4, output: 4}}", 4),
        ("'ft:a:b*': {input: 5, output: 5}", 5),
        ("'ft:a:b': {input: 4, output: 4}, 'ft:a:b*': {input: 5, output: 5}", 4),
        ("'ft:b*': {input: 6, output: 6}", None),
        ("'ft:a': {input: 7, output: 7}", None),
    ],
)
def test_exact_price_beats_every_pattern_and_the_longest_pattern_wins(prices: str, dollars: float | None) -> None:
    found = agent(f"agents: {{qa: {{fine_tuned: 'ft:a:b', fallback: b}}}}\nprices: {{{prices}}}\n").finetuned.price
    assert (None if found is None else found.input) == dollars


@pytest.mark.parametrize(
    ("cached", "dollars"),
    [
        ("", 2),
        (", cached_input: 0.5", 0.5),
        (", cached_input: 0", 0),
        (", cached_input: {mistral: 0.25}", 0.25),
        (", cached_input: {openai: 0.25}", 2),
        (", cached_input: {}", 2),
    ],
)
def test_cached_input_costs_what_the_targets_dialect_says_or_as_much_as_other_input(
    cached: str, dollars: float
) -> None:
    found = agent(f"agents: {{qa: {{fine_tuned: a, fallback: b}}}}\nprices: {{a: {{input: 2, output: 8{cached}}}}}\n")
    assert found.finetuned.price == Price(2, 8, dollars)
    assert found.baseline.price is None

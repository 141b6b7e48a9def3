# ruff: noqa: E501 – an error is one line, however long

import pytest

from .samples import UPSTREAMS, problem, problems


def test_wrong_value_is_reported_with_its_line_and_column() -> None:
    text = """\
environment: production

upstreams:
  mistral:
    base_url: https://api.mistral.ai
agents:
  qa_agent:
    fine_tuned: "ft:qa"
    fallback: base
    # the next line is wrong

    max_tokens: abc
"""
    line = 'policies/x.yaml:12:5: agents.qa_agent.max_tokens: got "abc", expected a whole number > 0'
    assert str(problem(text)) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "agnets: {}",
            "agnets: got an unknown key, expected one of: extends, environment, *; did you mean agents?",
        ),
        (
            "fallback: {on: {5x: true}}",
            "fallback.on.5x: got an unknown key, expected one of: *; did you mean 5xx?",
        ),
        ("fallback: {onn: {}}", "fallback.onn: got an unknown key, expected one of: *; did you mean on?"),
        ("limits: {zzz: 1}", "limits.zzz: got an unknown key, expected one of: max_in_flight, *"),
        (
            "rollout: {steps: [{percent: 1, sock: 24h}]}",
            "rollout.steps[0].sock: got an unknown key, expected one of: percent, soak, min, approval; did you mean soak?",
        ),
        (
            "rollout: {gates: {cost: {kind: signal, margin: +1%, min: {user: 1}}}}",
            "rollout.gates.cost.min.user: got an unknown key, expected one of: users, events, rated; did you mean users?",
        ),
        (
            "agents: {qa: {fine_tuned: {modle: x, model: x}, fallback: b}}",
            "agents.qa.fine_tuned.modle: got an unknown key, expected one of: upstream, model; did you mean model?",
        ),
        (
            "prices: {m: {input: 1, output: 1, inptu: 1}}",
            "prices.m.inptu: got an unknown key, expected one of: input, output, cached_input; did you mean input?",
        ),
    ],
)
def test_unknown_key_is_reported_with_the_known_ones_and_the_likeliest(text: str, line: str) -> None:
    head, _, tail = line.partition("*")
    found = str(problem(f"{UPSTREAMS}{text}\n")).split(": ", 1)[1]
    assert found.startswith(head)
    assert found.endswith(tail)
    assert tail or "did you mean" not in found or "*" not in line


@pytest.mark.parametrize(
    ("text", "key", "value", "expected"),
    [
        ("models: sk-live", "models", "text", "a mapping of keys to values"),
        ("models: [a]", "models", "a list", "a mapping of keys to values"),
        ("models:", "models", "nothing", "a mapping of keys to values"),
        ("agents: {qa: sk-live}", "agents.qa", "text", "a mapping of keys to values"),
        ("prices: 7", "prices", "7", "a mapping of keys to values"),
        ("rollout: {ramp: 10}", "rollout.ramp", "10", "a list"),
        ("environment: 7", "environment", "7", "text (in quotes, where it looks like a number)"),
        ("environment: {a: b}", "environment", "a mapping", "text (in quotes, where it looks like a number)"),
    ],
)
def test_value_of_the_wrong_shape_is_reported_without_its_content(
    text: str, key: str, value: str, expected: str
) -> None:
    found = problem(f"{UPSTREAMS}{text}\n")
    assert (found.key, found.value, found.expected) == (key, value, expected)


@pytest.mark.parametrize("text", ["sk-live", "[sk-live]", "5"])
def test_file_that_is_no_mapping_is_one_problem(text: str) -> None:
    found = problem(text)
    assert found.expected == "a mapping of keys to values"
    assert "live" not in str(found)


def test_missing_key_is_reported_where_its_section_stands() -> None:
    found = problem("upstreams:\n  m:\n    dialect: openai\n")
    assert str(found) == (
        "policies/x.yaml:2:3: upstreams.m.base_url: got nothing, expected a value (this key is required)"
    )


def test_wrong_value_behind_an_alias_is_reported_at_each_place() -> None:
    found = problems(
        """\
upstreams:
  a: {base_url: "http://a", timeouts: &t {connect: 2}}
  b: {base_url: "http://b", timeouts: *t}
default_upstream: a
"""
    )
    assert [(one.line, one.key) for one in found] == [
        (2, "upstreams.a.timeouts.connect"),
        (2, "upstreams.b.timeouts.connect"),
    ]


def test_all_errors_are_reported_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        """\
environment: a b
upstreams:
  mistral:
    base_url: https://api.mistral.ai/v1
    api_kye: sk-live-secret
    timeouts: {connect: 2}
    timeouts: {connect: 3s}
    api_key: ${UNSET}
default_upstream: nowhere
agents:
  qa_agent:
    fine_tuned: {upstream: elsewhere, model: x}
    fallback: !!python/name:os.system base
    max_tokens: abc
    rollout_percentage: 101
rollout: {ramp: [50, 10]}
"""
    )
    assert [(one.line, one.key) for one in found] == [
        (1, "environment"),
        (4, "upstreams.mistral.base_url"),
        (5, "upstreams.mistral.api_kye"),
        (6, "upstreams.mistral.timeouts.connect"),
        (7, "upstreams.mistral.timeouts"),
        (8, "upstreams.mistral.api_key"),
        (9, "default_upstream"),
        (12, "agents.qa_agent.fine_tuned.upstream"),
        (13, "agents.qa_agent.fallback"),
        (14, "agents.qa_agent.max_tokens"),
        (15, "agents.qa_agent.rollout_percentage"),
        (16, "rollout.ramp"),
    ]
    assert "sk-live" not in "\n".join(map(str, found))


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: {m: {base_url: 'http://h', api_kye: sk-live}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key:sk-live}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: [sk-live]}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: {sk: sk-live}}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: 'sk-live with spaces'}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: !sk-live x}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: *sk-live}}\n",
        'upstreams: {m: {base_url: "http://h", api_key: "sk-live}}\n',
        "upstreams: {m: {base_url: 'http://h', api_key: sk-live, api_key: 'sk-live '}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: 'x${sk-live}'}}\n",
        "upstreams: {m: {base_url: 'http://h', api_key: '${UNSET} sk-live'}}\n",
        "upstreams: {m: {base_url: 'http://h', dialect: '${SECRET}'}}\n",
        "upstreams: {m: {base_url: '${SECRET}'}}\n",
        "upstreams: {m: {base_url: 'http://h'}}\nlimits: {max_in_flight: '${SECRET}'}\n",
        "upstreams: {m: {base_url: 'http://h'}}\nstore: {url: 'mongodb://u:sk-live@h'}\n",
        "upstreams: {m: {base_url: 'http://h'}}\nalerting: {slack_webhook: sk-live}\n",
        "upstreams: {m: {base_url: 'http://h'}}\nidentity: {keys: {sk-live: a}}\n",
    ],
)
def test_secret_is_in_no_error(text: str) -> None:
    found = problems(text, {"SECRET": "sk-live"})
    assert found
    for one in found:
        assert "live" not in str(one) + repr(one)

# ruff: noqa: E501 – an error is one line, however long

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.policy.config import PolicyConfig
from proxy.policy.document import MAX_BYTES, MAX_NODES
from proxy.policy.extend import read_merged
from proxy.policy.files import PolicyFiles
from proxy.policy.load import parse_policy
from proxy.policy.problems import PolicyError

from .samples import AGENTS, UPSTREAMS

BASE = UPSTREAMS + AGENTS


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()


def extended(text: str, base: str = BASE, env: Mapping[str, str] | None = None) -> PolicyConfig:
    Path("p/base.yaml").write_text(dedent(base))
    return parse_policy(f"extends: base.yaml\n{dedent(text)}".encode(), "p/x.yaml", env or {})


def lines(text: str, base: str = BASE, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        extended(text, base, env)
    return [str(problem) for problem in caught.value.problems]


def merged(text: str, base: str) -> object:
    Path("p/base.yaml").write_text(base)
    root, problems = read_merged(f"extends: base.yaml\n{text}".encode(), "p/x.yaml", PolicyFiles())
    assert not problems
    plain = root.plain()
    assert isinstance(plain, dict)
    assert plain.pop("extends") == "base.yaml"
    return plain


@pytest.mark.parametrize(
    ("base", "text", "result"),
    [
        ("{a: 1}", "b: 2", {"a": 1, "b": 2}),
        ("{a: 1}", "a: 2", {"a": 2}),
        ("{a: {b: 1, c: {d: 2, e: 3}}}", "a: {c: {e: 4}}", {"a": {"b": 1, "c": {"d": 2, "e": 4}}}),
        ("{a: {b: 1}}", "a: {}", {"a": {"b": 1}}),
        ("{a: [1, 2]}", "a: [3]", {"a": [3]}),
        ("{a: [{b: 1}]}", "a: [{c: 2}]", {"a": [{"c": 2}]}),
        ("{a: {b: 1}}", "a: [1]", {"a": [1]}),
        ("{a: [1]}", "a: {b: 1}", {"a": {"b": 1}}),
        ("{a: {b: 1}}", "a: short", {"a": "short"}),
        ("{a: short}", "a: {b: 1}", {"a": {"b": 1}}),
        ("{a: {b: 1}}", "a: null", {"a": None}),
        ("{a: {b: 1}}", "a: {b: null}", {"a": {"b": None}}),
        ("{a: null}", "a: {b: 1}", {"a": {"b": 1}}),
        ("{}", "a: 1", {"a": 1}),
    ],
)
def test_mappings_merge_and_everything_else_replaces(base: str, text: str, result: object) -> None:
    assert merged(text, base) == result


def test_aliases_are_merged_where_they_stand_and_not_where_else() -> None:
    base = "{a: &t {x: 1, y: {z: 1}}, b: *t}"
    assert merged("a: {y: {z: 2}}", base) == {"a": {"x": 1, "y": {"z": 2}}, "b": {"x": 1, "y": {"z": 1}}}


def test_short_form_of_a_model_replaces_the_long_one_and_the_other_way_round() -> None:
    base = """\
        upstreams: {a: {base_url: 'http://a'}, b: {base_url: 'http://b'}}
        default_upstream: a
        agents:
          long: {fine_tuned: x, fallback: {upstream: b, model: y}}
          short: {fine_tuned: x, fallback: y}
        """
    text = "agents: {long: {fallback: z}, short: {fallback: {upstream: b, model: z}}}\n"
    agents = extended(text, base).agents
    assert (agents["long"].fallback.upstream, agents["long"].fallback.model) == (None, "z")
    assert (agents["short"].fallback.upstream, agents["short"].fallback.model) == ("b", "z")
    other_model = extended("agents: {long: {fallback: {model: z}}}\n", base).agents["long"].fallback
    assert (other_model.upstream, other_model.model) == ("b", "z")


def test_replaced_reference_is_never_resolved() -> None:
    base = "upstreams: {m: {base_url: 'http://h', api_key: '${UNSET}'}}\n"
    config = extended("upstreams: {m: {api_key: '${UNSET:-}'}}\n", base)
    assert config.upstreams["m"].api_key is None


def test_mounted_file_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    for folder in ("p", "common"):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, "key").write_text(f"sk-{folder}\n")
    Path("common/base.yaml").write_text("upstreams: {a: {base_url: 'http://a', api_key: '${file:key}'}}\n")
    text = "extends: ../common/base.yaml\ndefault_upstream: a\nupstreams: {b: {base_url: 'http://b', api_key: '${file:key}'}}\n"
    upstreams = parse_policy(text.encode(), "p/x.yaml", {}).upstreams
    keys = {name: upstream.api_key.get_secret_value() for name, upstream in upstreams.items() if upstream.api_key}
    assert keys == {"a": "sk-common", "b": "sk-p"}


def test_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    Path("base.yaml").write_text(BASE)
    assert parse_policy(f"extends: {tmp_path}/base.yaml\n".encode(), "elsewhere/x.yaml", {}).agents


def test_every_error_of_both_files_is_reported_where_it_stands() -> None:
    base = """\
        upstreams:
          m: {base_url: http://h, dialcet: openai}
          m: {}
        limits: {drain: 25, max_body: 1}
        agents:
          qa: {fallback: b}
        """
    text = """\
        limits:
          drain: 30
        agents:
          qa: {temperature: '${HOT}'}
        """
    assert lines(text, base) == [
        "p/base.yaml:2:27: upstreams.m.dialcet: got an unknown key, expected one of: base_url, api_key, dialect, timeouts, pool, ca_file; did you mean dialect?",
        "p/base.yaml:3:3: upstreams.m: got the same key again, expected it once (first in line 2)",
        "p/base.yaml:4:21: limits.max_body: got 1, expected a size with its unit, such as 512KiB, 32MiB, 1GiB or 10MB",
        "p/x.yaml:3:3: limits.drain: got 30, expected a duration with its unit, such as 250ms, 2s, 15m, 24h or 30d",
        "p/x.yaml:5:3: agents.qa.fine_tuned: got nothing, expected a value (this key is required)",
        "p/x.yaml:5:8: agents.qa.temperature: got ${HOT}, expected the environment variable HOT to be set and not empty",
    ]


def test_section_made_null_is_an_error_of_the_file_that_did_it() -> None:
    assert lines("agents: null\n") == ["p/x.yaml:2:1: agents: got nothing, expected a mapping of keys to values"]


def test_file_that_is_extended_may_not_extend() -> None:
    assert lines("environment: a\n", f"{BASE}extends: other.yaml\n") == [
        "p/base.yaml:5:1: extends: got a third file, expected none, because p/x.yaml extends this one: one level"
    ]


def test_file_may_not_extend_itself() -> None:
    text = f"extends: x.yaml\n{BASE}"
    Path("p/x.yaml").write_text(text)
    with pytest.raises(PolicyError, match=r"p/x\.yaml:1:1: extends: got a third file"):
        parse_policy(text.encode(), "p/x.yaml", {})


@pytest.mark.timeout(5)
def test_extended_file_that_cannot_be_read_is_one_error_at_the_key() -> None:
    os.mkfifo("p/pipe")
    for name, reason in [
        ("none.yaml", "No such file or directory"),
        ("../p", "Is a directory"),
        ("pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
    ]:
        with pytest.raises(PolicyError) as caught:
            parse_policy(f"environment: a\nextends: {name}\nlimits: {{drain: 1, drain: 2}}\n".encode(), "p/x.yaml", {})
        assert [str(problem) for problem in caught.value.problems] == [
            "p/x.yaml:3:20: limits.drain: got the same key again, expected it once (first in line 3)",
            f'p/x.yaml:2:1: extends: got "{name}" ({reason}), expected a readable policy file',
        ]


@pytest.mark.parametrize("value", ["7", "[base.yaml]", '""', "${BASE}", "{a: b}"])
def test_extends_is_a_path_without_references(value: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"extends: {value}\n{BASE}".encode(), "p/x.yaml", {"BASE": "base.yaml"})
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (1, "extends")
    assert problem.expected == "the path of a policy file, relative to this one and without ${…}"


@pytest.mark.parametrize("text", ["extends: null\n", "extends:\n"])
def test_extends_nothing_is_a_file_that_stands_alone(text: str) -> None:
    assert parse_policy(f"{text}{BASE}".encode(), "p/x.yaml", {}).extends is None


@pytest.mark.parametrize(
    ("base", "place"),
    [("a: [\n", "p/base.yaml:2:1"), ("- 1\n", "p/base.yaml:1:1"), ("", "p/base.yaml:1:1"), ("a: \xe9", "p/base.yaml")],
)
def test_extended_file_that_is_no_policy_is_reported_as_that_file(base: str, place: str) -> None:
    Path("p/base.yaml").write_text(base, "latin-1")
    with pytest.raises(PolicyError) as caught:
        parse_policy(b"extends: base.yaml\n", "p/x.yaml", {})
    (problem,) = caught.value.problems
    assert str(problem).startswith(place)


def test_bounds_hold_for_both_files_together() -> None:
    half = "#" * (MAX_BYTES // 2)
    assert lines(f"{half}\n", f"{half}\n{BASE}") == [
        "p/x.yaml:1:1: extends: got more, expected at most 1 MiB in both files"
    ]
    values = "[" + "1," * (MAX_NODES * 2 // 3) + "]"
    found = lines(f"a: {values}\n", f"b: {values}\n{BASE}")
    assert any(
        line.startswith(f"p/x.yaml:1:1: extends: got more, expected at most {MAX_NODES} values in both files")
        for line in found
    )
    deep = "[" * 25 + "]" * 25
    assert any("at most 32 levels" in line for line in lines(f"a: {'{b: ' * 8}{deep}{'}' * 8}\n"))


def test_secrets_of_the_extended_file_are_in_no_error() -> None:
    base = "upstreams: {m: {base_url: 'http://h', api_key: 'sk live'}, n: {base_url: '${SECRET}'}}\n"
    found = lines("alerting: {slack_webhook: sk-live}\n", base, {"SECRET": "sk-live"})
    assert len(found) == 4
    assert not any("live" in line for line in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(base=st.one_of(st.binary(max_size=100), st.text(alphabet="ab: {}[]\n&*-#", max_size=60).map(str.encode)))
def test_any_bytes_in_the_extended_file_are_a_policy_or_a_policy_error(base: bytes) -> None:
    Path("p/base.yaml").write_bytes(base)
    with contextlib.suppress(PolicyError):
        parse_policy(f"extends: base.yaml\na: {{b: 1}}\n{BASE}".encode(), "p/x.yaml", {})

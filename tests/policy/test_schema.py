"""policies/schema.json: what editors check policy files by."""
# ruff: noqa: E501 – a policy is one line here

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import units
from proxy.policy.document import read_document
from proxy.policy.load import parse_policy
from proxy.policy.problems import PolicyError
from proxy.policy.schema import policy_schema

from .samples import AGENTS, UPSTREAMS
from .test_config import SECRETS, WHOLE
from .test_config_rollout import ROLLOUT

FOLDER = Path(__file__).parents[2] / "policies"
FILES = sorted(FOLDER.glob("*.yaml"))
SCHEMA: dict[str, Any] = json.loads((FOLDER / "schema.json").read_text("utf-8"))
VALIDATOR: Any = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)


def complaints(text: str | bytes) -> list[str]:
    """What an editor would underline: the place and the words."""
    root, problems = read_document(text.encode() if isinstance(text, str) else text, "x.yaml")
    assert not problems
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(root.plain())]


def accepted_by_the_loader(text: str) -> bool:
    try:
        parse_policy(text.encode(), "x.yaml", SECRETS)
    except PolicyError:
        return False
    return True


def test_checked_in_schema_is_the_generated_one() -> None:
    assert policy_schema() == SCHEMA, "run: python -m proxy.policy.schema > policies/schema.json"


def test_schema_is_a_schema() -> None:
    VALIDATOR.check_schema(SCHEMA)


def test_every_shipped_policy_is_valid_and_tells_editors_so() -> None:
    assert len(FILES) == 5
    for path in FILES:
        assert path.read_text().splitlines()[0] == "# yaml-language-server: $schema=schema.json"
        assert complaints(path.read_bytes()) == [], path


@pytest.mark.parametrize("text", [WHOLE, WHOLE + ROLLOUT, UPSTREAMS + AGENTS], ids=["whole", "rollout", "small"])
def test_policy_of_the_design_is_valid(text: str) -> None:
    assert accepted_by_the_loader(text)
    assert complaints(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "models: {use_finetuned: '${FLAG:-true}'}",
        "limits: {drain: '${DRAIN:-25s}', max_in_flight: '${MANY:-10}', max_body: '${SIZE:-1MiB}'}",
        "limits: {drain: '0s', drain_delay: 1.5 h, max_body: 10 MB, max_buffered: 1GiB}",
        "ab_testing: {enabled: true, rollout_percentage: 0.01}",
        "ab_testing: {rollout_percentage: '${SHARE:-5}'}",
        "agents: {a: {fine_tuned: '${MODEL:-m}', fallback: {model: m, upstream: mistral}, max_tokens: null, temperature: 0}}",
        "agents: {a: {fine_tuned: m, fallback: m, compat: '${COMPAT:-native}'}}",
        "prices: {'*': {input: 1, output: 2.5, cached_input: 0.5}, m: {input: 0, output: 0, cached_input: {mistral: 1}}}",
        "listen: {data: ':80', admin: '[::1]:8081'}",
        "listen: {data: '${HOST:-localhost}:80'}",
        "identity: {agent: [header:X-Agent, 'baggage:agent', path, 'default:a'], user: ['body:user', 'default:some one']}",
        "rollout: {gates: {success: null, cost: {kind: signal, margin: '+5.5%'}, feedback: {kind: signal, margin: -1}}}",
        "rollout: {gates: {success: {kind: guardrail, margin: 0pp}, latency_p95: {kind: signal, margin: 2 pp}}}",
        "rollout: {steps: [{percent: 1}, {percent: 100, soak: 0s, min: {users: 0}}], brake: {floor: 100%, odds: 1.5}}",
        "store: {url: null, retention: 36h}",
        "store: {url: 'postgresql://u:p@h/db', unit_key: 0123456789abcdef0123456789abcdef}",
        "fallback: {on: {429: false, 5xx: true}}",
        "extends: null",
    ],
)
def test_what_the_loader_takes_is_valid(text: str) -> None:
    whole = f"{UPSTREAMS}{text}\n"
    assert accepted_by_the_loader(whole)
    assert complaints(whole) == []


# With the place that an editor underlines: the nearest one with a single reading.
INVALID = [
    ("agnets: {}", ""),
    ("fallback: {on: {5x: true}}", "fallback.on"),
    ("limits: {drain: 25}", "limits.drain"),
    ("limits: {drain: 25 parsecs}", "limits.drain"),
    ("limits: {drain: -5s}", "limits.drain"),
    ("limits: {write_stall: 0s}", "limits.write_stall"),
    ("limits: {write_stall: 0.0h}", "limits.write_stall"),
    ("limits: {max_body: 32MB5}", "limits.max_body"),
    ("limits: {max_body: 0MiB}", "limits.max_body"),
    ("limits: {max_in_flight: 0}", "limits.max_in_flight"),
    ("limits: {max_in_flight: '8'}", "limits.max_in_flight"),
    ("limits: null", "limits"),
    ("models: {use_finetuned: yes}", "models.use_finetuned"),
    ("models: {use_finetuned: 1}", "models.use_finetuned"),
    ("ab_testing: {rollout_percentage: 101}", "ab_testing.rollout_percentage"),
    ("ab_testing: {rollout_percentage: -1}", "ab_testing.rollout_percentage"),
    ("ab_testing: {rollout_percentage: 10%}", "ab_testing.rollout_percentage"),
    ("compat: unlaesh", "compat"),
    ("environment: a b", "environment"),
    ("agents: {a: {fine_tuned: m}}", "agents.a"),
    ("agents: {a: {fine_tuned: m, fallback: {upstream: mistral}}}", "agents.a.fallback"),
    ("agents: {a: {fine_tuned: '', fallback: m}}", "agents.a.fine_tuned"),
    ("agents: {a: {fine_tuned: [m], fallback: m}}", "agents.a.fine_tuned"),
    ("agents: {a: {fine_tuned: m, fallback: m, temperature: 2.1}}", "agents.a.temperature"),
    ("agents: {a: {fine_tuned: m, fallback: m, max_tokens: 1.5}}", "agents.a.max_tokens"),
    ("agents: {'a b': {fine_tuned: m, fallback: m}}", "agents"),
    ("agents: {other: {fine_tuned: m, fallback: m}}", "agents"),
    ("agents: {'${A}': {fine_tuned: m, fallback: m}}", "agents"),
    ("prices: {m: {input: 1}}", "prices.m"),
    ("prices: {'a*b': {input: 1, output: 1}}", "prices"),
    ("prices: {m: {input: -1, output: 1}}", "prices.m.input"),
    ("prices: {m: {input: 1, output: 1, cached_input: {opnai: 1}}}", "prices.m.cached_input"),
    ("prices: {m: {input: 1, output: 1, cached_input: cheap}}", "prices.m.cached_input"),
    ("listen: {data: localhost}", "listen.data"),
    ("listen: {data: '::1:80'}", "listen.data"),
    ("identity: {agent: [heder:x]}", "identity.agent[0]"),
    ("identity: {user: [path]}", "identity.user[0]"),
    ("identity: {keys: {abc: a}}", "identity.keys"),
    ("identity: {on_missing_user: refuse}", "identity.on_missing_user"),
    ("rollout: {gates: {success: {kind: guardrail, margin: +1pp}}}", "rollout.gates.success"),
    ("rollout: {gates: {success: {kind: guardrail, margin: -1%}}}", "rollout.gates.success"),
    ("rollout: {gates: {cost: {kind: signal, margin: -1%}}}", "rollout.gates.cost"),
    ("rollout: {gates: {cost: {margin: 1%}}}", "rollout.gates.cost"),
    ("rollout: {brake: {floor: 101%}}", "rollout.brake.floor"),
    ("rollout: {brake: {odds: 1}}", "rollout.brake.odds"),
    ("rollout: {ramp: 10}", "rollout.ramp"),
    ("rollout: {steps: [{soak: 1h}]}", "rollout.steps"),
    ("store: {url: 'mysql://h/db'}", "store.url"),
    ("observability: {probe: {every: 60}}", "observability.probe.every"),
    ("alerting: {slack_webhook: hooks.slack.com}", "alerting.slack_webhook"),
    ("default_upstream: 7", "default_upstream"),
    ("extends: 7", "extends"),
    ("extends: '${BASE}'", "extends"),
]


@pytest.mark.parametrize(("text", "key"), INVALID, ids=[text for text, _ in INVALID])
def test_what_the_schema_refuses_the_loader_refuses_too(text: str, key: str) -> None:
    whole = f"{UPSTREAMS}{text}\n"
    assert not accepted_by_the_loader(whole)
    assert {found.partition(": ")[0] for found in complaints(whole)} == {f"$.{key}" if key else "$"}


@pytest.mark.parametrize(
    "upstream",
    [
        "{base_url: 'https://h/v1'}",
        "{base_url: 'https://h/v1/'}",
        "{base_url: 'ftp://h'}",
        "{base_url: 'https://user:key@h'}",
        "{base_url: 'https://h?x=1'}",
        "{base_url: h}",
        "{dialect: openai}",
        "{base_url: 'https://h', dialect: gemini}",
        "{base_url: 'https://h', api_key: 'with space'}",
        "{base_url: 'https://h', timeouts: {connect: 2}}",
        "{base_url: 'https://h', pool: {max_connections: 65536}}",
    ],
)
def test_wrong_upstream_is_refused_by_both(upstream: str) -> None:
    text = f"upstreams: {{up: {upstream}}}\n"
    assert not accepted_by_the_loader(text)
    assert complaints(text)


def test_file_without_upstreams_is_refused_unless_it_extends_another() -> None:
    assert complaints("environment: dev\n")
    assert complaints("extends: null\nenvironment: dev\n")
    assert complaints("extends: base.yaml\nupstreams: {m: {api_key: k}}\nprices: {m: {output: 1}}\n") == []
    assert complaints("extends: base.yaml\nagents: {a: {fallback: {upstream: m}}}\n") == []
    assert complaints("extends: base.yaml\nrollout: {steps: [{soak: 1h}]}\n"), "a list replaces, so it must be whole"
    assert complaints("extends: base.yaml\nagnets: {}\n")


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, section in {"": schema, **schema["$defs"]}.items():
        for part in [section, *section.get("anyOf", ())]:
            for key, value in part.get("properties", {}).items():
                yield f"{name}.{key}", value


def test_every_key_and_section_is_described() -> None:
    sections = {f"#/$defs/{name}": each for name, each in SCHEMA["$defs"].items()}
    found = dict(properties(SCHEMA))
    assert len(found) > 110
    for place, value in found.items():
        named = sections.get(value.get("$ref", ""), value)
        told = named.get("description") or [each.get("description") for each in named.get("anyOf", ())]
        assert told, place
        assert any(told), place


def test_defaults_are_written_as_a_person_would() -> None:
    found = {place: value["default"] for place, value in properties(SCHEMA) if "default" in value}
    assert found["LimitsConfig.drain"] == "25s"
    assert found["LimitsConfig.max_body"] == "32MiB"
    assert found["BrakeConfig.floor"] == "2%"
    assert found["UpstreamConfig.dialect"] == "openai"
    for _, value in properties(SCHEMA):
        if "default" in value:
            VALIDATOR.evolve(schema={**value, "$defs": SCHEMA["$defs"]}).validate(value["default"])


# Small enough for every longest duration and largest size, which are the parsers' to refuse.
NUMBERS = st.from_regex(r"[+-]?[0-9]{1,3}(\.[0-9]{1,3})?", fullmatch=True)
UNITS = st.sampled_from(["", "ms", "s", "m", "h", "d", "B", "kB", "KiB", "MiB", "GB", "%", "pp", "x", " s", "  s"])


@given(text=st.builds("{}{}".format, NUMBERS, UNITS))
def test_pattern_of_a_unit_takes_what_its_parser_takes(text: str) -> None:
    def value(parse: Any) -> float | None:
        try:
            return float(parse(text))
        except ValueError:
            return None

    duration, size = value(units.parse_duration), value(units.parse_size)
    percent, points = value(units.parse_percent), value(units.parse_points)
    assert bool(re.search(units.DURATION, text)) == (duration is not None)
    assert bool(re.search(units.SOME_DURATION, text)) == bool(duration)
    assert bool(re.search(units.SOME_SIZE, text)) >= bool(size)  # whole bytes are the parser's to ask for
    assert bool(re.search(units.SHARE, text)) == (percent is not None and 0 <= percent <= 1)
    assert bool(re.search(units.RISE, text)) == (percent is not None and percent >= 0)
    assert bool(re.search(units.POINTS_UP, text)) == (points is not None and points >= 0)
    assert bool(re.search(units.POINTS_DOWN, text)) == (points is not None and points <= 0)

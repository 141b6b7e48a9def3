"""docs/policy.md: every key of the policy, its real type and default, and a reason."""

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from proxy.policy import units
from proxy.policy.config import PolicyConfig, validate_policy
from proxy.policy.config_rollout import GatesConfig
from proxy.policy.facts import gather_facts
from proxy.policy.load import parse_policy
from proxy.policy.schema import descriptions
from tests.docs.pages import PAGES, bare, blocks, spans, text_of
from tests.support.lane import policy_file

PAGE = "docs/policy.md"
MINIMAL: dict[str, Any] = {
    "upstreams": {"up": {"base_url": "http://127.0.0.1:9000"}},
    "agents": {"qa_agent": {"fine_tuned": "ft:m", "fallback": "m"}},
}


class Key(NamedTuple):
    """One key of the policy; `default` is the real one where the file leaves it out."""

    path: str
    field: FieldInfo
    required: bool
    default: Any
    description: str  # what editors show


def keys(model: type[BaseModel], prefix: str = "", instance: BaseModel | None = None) -> Iterator[Key]:
    """Every key below a section.  Sections that have a default instance show that instance's values."""
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        path = f"{prefix}{field.alias or name}"
        if get_origin(kind) in (UnionType, Union):
            kind = next(each for each in get_args(kind) if each is not type(None))
        item = ""
        if get_origin(kind) is dict:
            kind, item = get_args(kind)[1], ".NAME"
        elif get_origin(kind) is tuple:
            kind, item = get_args(kind)[0], "[]"
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        given = None if instance is None else getattr(instance, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested = given if given is not None else field.default
            yield from keys(kind, f"{path}{item}.", nested if isinstance(nested, BaseModel) else None)
        else:
            path += item.replace("[]", "")
            required = field.is_required() and given is None
            default = field.get_default() if given is None else given
            yield Key(path, field, required, default, descriptions(model).get(name, ""))


GATE = re.compile(r"^rollout\.gates\.\w+\.(?!margin$|max$)")
BLOCK = re.compile(
    r"^- \*\*`(?P<path>[^`]+)`\*\* · (?P<kind>.+) · (?P<default>required|default `[^`]+`|left out: .+)\\\n"
    r"  (?P<meaning>.+)\\\n"
    r"  \*(?P<question>Why|Why no default):\* (?P<reason>.+)\.$",
    re.MULTILINE,
)
ALL = {key.path: key for key in keys(PolicyConfig)}
GENERAL = {GATE.sub("rollout.gates.GATE.", path) for path in ALL}


class Block(NamedTuple):
    """What the page says of one key."""

    kind: str
    default: str
    meaning: str
    question: str
    reason: str


def read_blocks(text: str) -> dict[str, Block]:
    found = [match.groupdict() for match in BLOCK.finditer(text)]
    assert len(found) == text.count("\n- **`"), "a block of another form"
    documented = {each.pop("path"): Block(**each) for each in found}
    assert len(documented) == len(found), "a key has two blocks"
    return documented


DOCUMENTED = read_blocks(text_of(PAGE))


def key_of(path: str) -> Key:
    """The model's key of a block; what is said of GATE holds for every gate."""
    return ALL[path.replace(".GATE.", ".cost.")]


def schema_of(field: FieldInfo) -> dict[str, Any]:
    """The JSON Schema of one value of a field: of an optional one, or of a list's items or a mapping's values."""
    kind: Any = field.annotation
    schema = TypeAdapter(Annotated[kind, *field.metadata] if field.metadata else kind).json_schema()
    found = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    if "$ref" in found:
        found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    return dict(found.get("items", found))


def test_every_key_has_its_block_and_no_block_is_invented() -> None:
    assert DOCUMENTED.keys() == GENERAL


def test_every_gate_has_a_block() -> None:
    assert {path.split(".")[2] for path in DOCUMENTED if path.startswith("rollout.gates.")} == {
        "GATE",
        *GatesConfig.model_fields,
    }


@pytest.mark.parametrize("path", sorted(GENERAL))
def test_documented_default_is_the_real_one(path: str) -> None:
    key, block = key_of(path), DOCUMENTED[path]
    if GATE.match(path):
        # the same in every gate, save where the meaning says otherwise
        section = next(field.annotation for name, field in GatesConfig.model_fields.items() if name == "cost")
        gate = next(each for each in get_args(section) if each is not type(None))
        key = {each.path: each for each in keys(gate, "rollout.gates.GATE.")}[path]
    assert key.required == (block.default == "required") == (block.question == "Why no default")
    if key.required:
        return
    value = block.default.removeprefix("default ")
    if value != block.default:
        assert read(key.field, yaml.safe_load(bare(value))) == key.default
    else:
        assert key.default in (None, "", {}), "a default in plain words, but the program has one"


@pytest.mark.parametrize("path", sorted(GENERAL))
def test_default_has_its_reason(path: str) -> None:
    reason = DOCUMENTED[path].reason
    assert len(reason.split()) >= 4
    assert not re.search(r"\b(as above|see above|because it is the default)\b", reason)


@pytest.mark.parametrize("path", sorted(GENERAL))
def test_documented_type_and_unit_are_the_real_ones(path: str) -> None:
    kind, schema = DOCUMENTED[path].kind, schema_of(key_of(path).field)
    forms = {
        units.DURATION: "duration",
        units.SOME_DURATION: "duration",
        units.SOME_SIZE: "size",
        units.SHARE: "per cent",
        units.RISE: "per cent",
        units.POINTS_DOWN: "points ≤ 0",
        units.POINTS_UP: "points ≥ 0",
    }
    choices = schema.get("enum")
    if pattern := schema.get("pattern"):
        assert pattern not in forms or kind.startswith(forms[pattern])
    elif choices:
        assert kind == ", ".join(f"`{choice}`" for choice in choices)
    elif schema["type"] == "boolean":
        assert kind == "flag"
    elif schema["type"] in ("integer", "number") and "percentage" not in kind:
        bounds, comma, _ = kind.replace("−", "-").partition(", ")
        assert comma, "a number without a unit"
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
        assert str(low) in bounds
        assert "…" not in bounds or bounds.endswith(f"… {high:.0f}")
    assert (kind == "flag") == (schema.get("type") == "boolean")
    assert kind.startswith(("duration", "size", "points", "per cent")) <= (schema.get("pattern") in forms)


def test_meaning_is_what_editors_show() -> None:
    """Where a section serves in several places, the page may be more exact than its fields."""
    paths: dict[int, list[str]] = {}
    for path, key in ALL.items():
        paths.setdefault(id(key.field), []).append(path)
    alone = [places[0] for places in paths.values() if len(places) == 1]
    assert len(alone) > 80
    for path in alone:
        shown = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", DOCUMENTED[GATE.sub("rollout.gates.GATE.", path)].meaning)
        description = ALL[path].description
        assert description, path
        assert shown.startswith(description), path


def read(field: FieldInfo, value: Any) -> Any:
    """A value as the policy's own types read it."""
    kind: Any = field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[kind, *field.metadata] if field.metadata else kind)
    found = adapter.validate_python(value, context=gather_facts(MINIMAL))
    return found.get_secret_value() if isinstance(found, SecretStr) else found


def test_default_gates_are_the_documented_ones() -> None:
    gates = validate_policy(MINIMAL).rollout.gates
    for path, block in DOCUMENTED.items():
        if path.startswith("rollout.gates.") and "GATE" not in path:
            gate = getattr(gates, path.split(".")[2])
            assert block.kind.endswith(f", `{gate.kind}`"), path
            special = "feedback" in path
            assert (gate.on_insufficient, gate.min.users, gate.min.events, gate.min.rated) == (
                ("ignore", 100, 10, 100) if special else ("hold", 100, 10, 0)
            ), path


def test_every_policy_in_an_example_is_valid() -> None:
    found = [block for block in blocks("yaml") if "upstreams:" in block.text]
    assert len(found) >= 2
    for block in found:
        parse_policy(block.text.encode(), f"{block.page}:{block.line}", {"MISTRAL_API_KEY": "k"})


def test_every_extending_policy_in_an_example_is_valid_beside_the_shipped_ones() -> None:
    found = [block for block in blocks("yaml") if "extends:" in block.text]
    assert found
    for block in found:
        parse_policy(block.text.encode(), str(policy_file("example.yaml")), {"MISTRAL_API_KEY": "k"})


def test_every_other_yaml_example_can_be_read() -> None:
    for block in blocks("yaml"):
        assert isinstance(yaml.safe_load(block.text), dict), block


def test_keys_mentioned_elsewhere_exist() -> None:
    sections = {path.rpartition(".")[0] for path in ALL} | {path.split(".")[0] for path in ALL}
    roots = {path.split(".")[0] for path in ALL}
    short = {path.split(".", 2)[2] for path in ALL if path.startswith("upstreams.")}  # `timeouts.total`
    known = ALL.keys() | GENERAL | sections | short | {each.rpartition(".")[0] for each in short | sections}
    known |= {"agents.NAME", "upstreams.NAME"}
    for page in PAGES:
        for span in spans(page):
            named = re.fullmatch(r"([a-z_]+)(\.[A-Za-z0-9_.\[\]]+)", span)
            if named and named[1] in roots | {"timeouts", "pool"}:
                assert span in known, f"{page} mentions {span}"

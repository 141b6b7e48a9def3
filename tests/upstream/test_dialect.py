"""What each vendor gets: fields it knows, and nothing else of the body changed.

ACCEPTANCE 1, 18 and 22.  The vendors' fields are read from their own SDKs.
"""

import json
from typing import Any, NamedTuple, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistralai.client.models import ChatCompletionRequest, ChatCompletionStreamRequest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from proxy.upstream.dialect import render
from proxy.wire.body import Body
from proxy.words import Dialect
from tests.policy.samples import compiled
from tests.wire.json_texts import Text, both_ways, objects, sized

OPENAI, MISTRAL = Dialect.OPENAI, Dialect.MISTRAL
POLICY = compiled(
    """
    upstreams:
      mistral: {base_url: "https://api.mistral.ai", dialect: mistral}
      openai: {base_url: "https://api.openai.com", dialect: openai}
    default_upstream: mistral
    agents:
      qa_agent:
        fine_tuned: {upstream: mistral, model: 'ft:"new"'}
        fallback: {upstream: openai, model: 'ft:"new"'}
        max_tokens: 4096
        temperature: 0.7
    """
).agents[b"qa_agent"]
TARGETS = {MISTRAL: POLICY.finetuned, OPENAI: POLICY.baseline}
MODEL = 'ft:"new"'

OPENAI_FIELDS = set(get_type_hints(CompletionCreateParamsNonStreaming)) | set(
    get_type_hints(CompletionCreateParamsStreaming)
)
MISTRAL_FIELDS = {
    field.alias or name
    for model in (ChatCompletionRequest, ChatCompletionStreamRequest)
    for name, field in model.model_fields.items()
}
FIELDS = {OPENAI: OPENAI_FIELDS, MISTRAL: MISTRAL_FIELDS}
# The same thing by another name.
RENAMED = {
    MISTRAL: {"max_completion_tokens": "max_tokens", "seed": "random_seed"},
    OPENAI: {"random_seed": "seed"},
}

each_dialect = pytest.mark.parametrize("dialect", Dialect)


class Rendered(NamedTuple):
    body: bytes
    usage_injected: bool
    adapted: set[str]

    @property
    def json(self) -> dict[str, Any]:
        """The body; fails where a key stands twice."""
        pairs = json.loads(self.body, object_pairs_hook=list)
        parsed: dict[str, Any] = json.loads(self.body)
        assert len(pairs) == len(parsed)
        return parsed


def rendered(
    raw: bytes | dict[str, Any], dialect: Dialect, *, stream: bool = False, defaults: bool = False
) -> Rendered:
    text = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    added = POLICY.defaults if defaults else ()
    body, usage_injected, adapted = render(Body(text), TARGETS[dialect], added, stream=stream)
    return Rendered(body, usage_injected, set(adapted))


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "old", "messages": [{"role": "user", "content": "hi"}], **fields}


def foreign_to(dialect: Dialect) -> list[str]:
    """The fields that only the other vendor knows."""
    return sorted(set.union(*FIELDS.values()) - FIELDS[dialect])


def everything(of: Dialect) -> dict[str, Any]:
    """A request that uses every field of a vendor."""
    return request(**dict.fromkeys(sorted(FIELDS[of] - {"model", "messages", "stream"}), 1))


# --- fields -----------------------------------------------------------------------------------------


@each_dialect
@pytest.mark.parametrize("sender", Dialect)
@pytest.mark.parametrize("stream", [False, True])
def test_body_has_only_fields_that_the_vendor_knows(dialect: Dialect, sender: Dialect, stream: bool) -> None:
    body = everything(sender) | {"stream": stream}
    if sender is OPENAI:
        body["stream_options"] = {"include_usage": True}
    assert set(rendered(body, dialect, stream=stream, defaults=True).json) <= FIELDS[dialect]


@pytest.mark.parametrize(("dialect", "name"), [(dialect, name) for dialect in Dialect for name in foreign_to(dialect)])
def test_field_of_the_other_vendor_is_renamed_or_dropped(dialect: Dialect, name: str) -> None:
    expected = request() | {"model": MODEL}
    if name in RENAMED[dialect]:
        expected[RENAMED[dialect][name]] = 7
    found = rendered(request(**{name: 7}), dialect)
    assert found.json == expected
    assert found.adapted == {name}


@pytest.mark.parametrize(
    ("dialect", "name"),
    [(dialect, name) for dialect in Dialect for name in sorted(FIELDS[dialect] - {"model", "messages"})],
)
def test_field_of_the_vendor_itself_passes_untouched(dialect: Dialect, name: str) -> None:
    value = {"service_tier": b'"auto"', "stream_options": b'{"include_usage" : true}'}.get(name, b"1.50")
    raw = b'{"model": "old", "messages": [], "' + name.encode() + b'" :' + value + b" }"
    assert rendered(raw, dialect).body == raw.replace(b'"old"', json.dumps(MODEL).encode())


@each_dialect
def test_field_that_nobody_knows_passes_untouched(dialect: Dialect) -> None:
    raw = b'{"model":"old","x_new":1.50,"messages":[]}'
    found = rendered(raw, dialect)
    assert found.body == raw.replace(b'"old"', json.dumps(MODEL).encode())
    assert not found.adapted


@pytest.mark.parametrize(
    ("dialect", "name", "new"),
    [(dialect, name, new) for dialect, names in RENAMED.items() for name, new in names.items()],
)
def test_name_that_the_vendor_knows_wins_over_the_one_it_does_not(dialect: Dialect, name: str, new: str) -> None:
    for body in (request(**{name: 1, new: 2}), request(**{new: 2, name: 1})):
        assert rendered(body, dialect).json == request(**{new: 2}) | {"model": MODEL}


@each_dialect
@pytest.mark.parametrize("model", [True, False], ids=["with model", "without model"])
def test_any_two_fields_leave_a_sound_body(dialect: Dialect, model: bool) -> None:
    names = [*foreign_to(dialect), "messages", "temperature"]
    for first in names:
        for second in names:
            body = {first: 1, second: 2} | ({"model": "old"} if model else {})
            found = rendered(body, dialect, defaults=True).json
            assert found["model"] == MODEL
            assert set(found) <= FIELDS[dialect]


@each_dialect
def test_lone_field_without_a_model_leaves_a_sound_body(dialect: Dialect) -> None:
    for name in (*foreign_to(dialect), "messages"):
        twice = f'{{"{name}": 1, "{name}": 2}}'.encode()
        for raw in (b"{}", f'{{"{name}": 1}}'.encode(), twice):
            assert json.loads(rendered(raw, dialect).body)["model"] == MODEL


@pytest.mark.parametrize("key", [b'"\\u0075ser"', b'"us\\u0065r"'])
def test_refused_field_is_dropped_however_its_key_is_written(key: bytes) -> None:
    assert rendered(b'{"model":"old",' + key + b':"u"}', MISTRAL).json == {"model": MODEL}


@pytest.mark.parametrize("key", [b'"\\u0073eed"', b'"see\\u0064"'])
def test_field_is_renamed_however_its_key_is_written(key: bytes) -> None:
    assert rendered(b'{"model":"old",' + key + b"\n:1}", MISTRAL).json == {"model": MODEL, "random_seed": 1}


# --- defaults ---------------------------------------------------------------------------------------


@each_dialect
def test_defaults_fill_in_what_the_client_left_out(dialect: Dialect) -> None:
    found = rendered(request(), dialect, defaults=True).json
    assert found == request(max_tokens=4096, temperature=0.7) | {"model": MODEL}


@each_dialect
@pytest.mark.parametrize("name", ["max_tokens", "temperature"])
@pytest.mark.parametrize("value", [0, 1.5, None, "odd"])
def test_default_never_replaces_what_the_client_sent(dialect: Dialect, name: str, value: object) -> None:
    found = rendered(request(**{name: value}), dialect, defaults=True).json
    assert found[name] == value


@pytest.mark.parametrize(("dialect", "name"), [(OPENAI, "max_completion_tokens"), (MISTRAL, "max_tokens")])
def test_limit_by_its_newer_name_suppresses_the_default(dialect: Dialect, name: str) -> None:
    found = rendered(request(max_completion_tokens=9), dialect, defaults=True).json
    assert found == request(**{name: 9, "temperature": 0.7}) | {"model": MODEL}


def test_default_inside_a_nested_object_does_not_count() -> None:
    found = rendered(request(metadata={"max_tokens": 1}), OPENAI, defaults=True).json
    assert found["max_tokens"] == 4096


# --- stream_options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected", "injected"),
    [
        ({}, {"include_usage": True}, True),
        ({"stream_options": None}, {"include_usage": True}, True),
        ({"stream_options": {}}, {"include_usage": True}, True),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}, True),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
            True,
        ),
        ({"stream_options": {"include_usage": True}}, {"include_usage": True}, False),
        ({"stream_options": "odd"}, "odd", False),
        ({"stream_options": []}, [], False),
    ],
)
@both_ways
def test_openai_stream_is_asked_for_its_usage(
    long: bool, sent: dict[str, Any], expected: object, injected: bool
) -> None:
    raw = sized(json.dumps(request(**sent)).encode(), long)
    found = rendered(raw, OPENAI, stream=True)
    assert found.json == request(stream_options=expected) | {"model": MODEL}
    assert found.usage_injected is injected


def test_stream_options_that_ask_for_usage_keep_their_bytes() -> None:
    raw = b'{"model":"old","stream_options": {"x" : 1.50, "include_usage":true }}'
    assert rendered(raw, OPENAI, stream=True).body == raw.replace(b'"old"', json.dumps(MODEL).encode())


def test_other_stream_options_keep_their_bytes_when_usage_is_asked_for() -> None:
    raw = b'{"model":"old","stream_options": {"x" : 1.50, "y":"\\u00e9", "z":12345678901234567890123}}'
    found = rendered(raw, OPENAI, stream=True).body
    assert b'"x" : 1.50, "y":"\\u00e9", "z":12345678901234567890123' in found


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_mistral_stream_gets_no_stream_options(options: dict[str, Any]) -> None:
    found = rendered(request(stream=True, **options), MISTRAL, stream=True)
    assert found.json == request(stream=True) | {"model": MODEL}
    assert not found.usage_injected


@each_dialect
def test_answer_that_is_no_stream_is_not_asked_for_usage(dialect: Dialect) -> None:
    found = rendered(request(), dialect)
    assert "stream_options" not in found.json
    assert not found.usage_injected


# --- any body ---------------------------------------------------------------------------------------


@both_ways
@each_dialect
@given(text=objects(st.sampled_from(["model", "messages", "user", "seed", "random_seed", "top_k", "x"])))
def test_every_member_that_the_vendor_takes_keeps_its_bytes(dialect: Dialect, long: bool, text: Text) -> None:
    found = rendered(sized(text.raw, long), dialect, defaults=True).body
    assert json.loads(found)["model"] == MODEL
    position = 0
    for member in text.members:
        if member.name in {"messages", "x"}:
            position = found.index(text.raw[member.start : member.end], position)
        if member.name in foreign_to(dialect):
            assert member.name not in json.loads(found)


# --- copies -----------------------------------------------------------------------------------------


def copied(raw: bytes, dialect: Dialect) -> Rendered:
    body, usage_injected, adapted = render(Body(raw), TARGETS[dialect], POLICY.defaults, stream=False, copy=True)
    return Rendered(body, usage_injected, set(adapted))


@each_dialect
@pytest.mark.parametrize("sender", Dialect)
def test_copy_is_the_same_request_but_for_stream_and_store(dialect: Dialect, sender: Dialect) -> None:
    body = everything(sender) | {"stream": True, "stream_options": {"include_usage": True}, "store": True}
    plain = rendered({key: value for key, value in body.items() if key not in ("stream", "stream_options", "store")},
                     dialect, defaults=True)  # fmt: skip
    copy = copied(json.dumps(body).encode(), dialect)
    assert copy.json == {**plain.json, "stream": False}
    assert not copy.usage_injected


@both_ways
@each_dialect
@pytest.mark.parametrize(
    "raw",
    [
        b'{"stream":true}',
        b'{"stream":true,"stream":false,"store":1}',
        b'{"stream" : true , "model" : "m"}',
        b'{"model":"m","str\\u0065am":true}',
        b'{"messages":[],"stream":true,"stream_options":{"include_usage":true}}',
        b"{}",
    ],
)
def test_copy_says_once_that_it_is_no_stream(dialect: Dialect, raw: bytes, long: bool) -> None:
    text, _, _ = render(Body(sized(raw, long)), TARGETS[dialect], (), stream=False, copy=True)
    pairs = json.loads(text, object_pairs_hook=list)
    assert [value for key, value in pairs if key == "stream"] == [False]
    assert not {key for key, _ in pairs} & {"stream_options", "store"}

"""What an event means for the commit point.  ACCEPTANCE 19, 21, 24; DESIGN §1, "one commit point"."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import EventKind, event_data, has_content, parse_event, says_something


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"\ndata: x\r\n\r", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\nid: 1\ndata\n\n", b"a\n"),
        (b"event: e\ndata: x\n\n", b"x"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"data: a\xe2\x80\xa8b\x0b\n\n", b"a\xe2\x80\xa8b\x0b"),
        (b"data:\n\n", b""),
        (b": ping\n\n", None),
        (b"datum: x\n\n", None),
        (b"event: ping\n\n", None),
        (b"\n\n", None),
        (b"", None),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes | None) -> None:
    assert event_data(event) == data


def delta(**fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def finish(reason: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


CONTENT = [
    delta(content="hi"),
    delta(content=" "),
    delta(role="assistant", content="hi"),
    delta(content=[{"type": "thinking", "thinking": []}]),
    delta(reasoning_content="hm"),
    delta(reasoning="hm"),
    delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
    delta(function_call={"name": "f"}),
    delta(refusal="no"),
    delta(audio={"id": "a"}),
    finish("stop"),
    finish("length"),
    finish("content_filter"),
    {"choices": [{"delta": {}}, {"delta": {"content": "second choice"}}]},
    {"choices": [{"text": "legacy"}]},
]
HELD = [
    delta(),
    delta(role="assistant"),
    delta(role="assistant", content=""),
    delta(content=None),
    delta(content="", tool_calls=[], refusal=None),
    {"choices": [{"index": 0}]},
    {"choices": [{"delta": None}]},
    {"choices": []},
    {"choices": [], "usage": {"prompt_tokens": 1}},
    {"choices": [], "prompt_filter_results": [{}]},
    {"id": "x"},
    {"error": None, "choices": []},
    {},
]
ERRORS = [
    {"error": {"message": "overloaded", "type": "server_error"}},
    {"error": "overloaded"},
    {"error": {"message": "m"}, "choices": []},
    {"error": {"message": "m"}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
    {"object": "error", "message": "overloaded", "type": "service_unavailable", "code": "3505"},
]


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [(EventKind.CONTENT, each) for each in CONTENT]
    + [(EventKind.HELD, each) for each in HELD]
    + [(EventKind.ERROR, each) for each in ERRORS],
    ids=lambda given: given.value if isinstance(given, EventKind) else json.dumps(given),
)
def test_kind_of_a_chunk(kind: EventKind, chunk: dict[str, object]) -> None:
    raw = json.dumps(chunk).encode()
    assert parse_event(b"data: " + raw + b"\n\n") == (kind, chunk)
    assert parse_event(b"event: x\r\ndata:" + raw + b"\r\n\r\n") == (kind, chunk)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b"data: [DONE]\n\n", EventKind.DONE),
        (b"data:[DONE]\r\n\r\n", EventKind.DONE),
        (b": ping\n\n", EventKind.HELD),
        (b"data: \n\n", EventKind.HELD),
        (b"event: ping\ndata:\n\n", EventKind.HELD),
        (b'data: {"choices":[{"delta":{"content":"\n\n', EventKind.CONTENT),
        (b"data: hello\n\n", EventKind.CONTENT),
        (b"data: null\n\n", EventKind.CONTENT),
        (b"data: [1]\n\n", EventKind.CONTENT),
        (b'data: "\xff"\n\n', EventKind.CONTENT),
    ],
)
def test_event_that_is_no_chunk(event: bytes, kind: EventKind) -> None:
    assert parse_event(event) == (kind, None)


FIELDS = ["choices", "delta", "content", "error", "finish_reason", "text", "object"]
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3)),
)
chunks = st.dictionaries(st.sampled_from(FIELDS), values, max_size=3)


@given(st.one_of(st.binary(), st.one_of(values, chunks).map(lambda value: json.dumps(value).encode())))
def test_no_event_is_too_odd_to_be_judged(data: bytes) -> None:
    kind, _ = parse_event(b"data: " + data + b"\n\n")
    assert kind in EventKind


@pytest.mark.parametrize("choices", [1, True, "x", {"0": {}}, [1], [None], [["x"]]])
def test_choices_of_an_odd_type_pass_as_content(choices: object) -> None:
    """Only the client may judge a malformed event."""
    kind, _ = parse_event(b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n")
    assert kind is EventKind.CONTENT


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"content": "x"}, True),
        ({"content": ""}, False),
        ({"role": "assistant"}, False),
        (None, False),
        ("x", False),
    ],
)
def test_message_says_something(message: object, says: bool) -> None:
    assert says_something(message) is says
    assert has_content({"delta": message}) is says

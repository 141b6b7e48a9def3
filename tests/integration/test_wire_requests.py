"""ACCEPTANCE 1 and 2: a request's body reaches the upstream as it was sent, but for the model's name."""

import json
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER
from tests.support.raw_client import request
from tests.support.wire import AGENT, CHAT, chat, wire

LIMIT = 32 << 20  # max_body's default


class Split(NamedTuple):
    """A body: what stands before the model's value, the value, and what stands behind it."""

    before: bytes
    model: bytes
    after: bytes

    @property
    def whole(self) -> bytes:
        return b"".join(self)

    def with_model(self, model: str) -> bytes:
        """What the upstream must get."""
        return self.before + json.dumps(model).encode() + self.after


# --- JSON as odd as the grammar allows ------------------------------------------------------------

SPACE = st.text(" \t\n\r", max_size=3)
ESCAPES = ["\\/", "\\u00e9", "\\u0000", "\\ud83d\\ude00", "\\ud800", '\\"', "\\\\", "\\b\\f\\n\\r\\t"]
TRAPS = ["{", "}]", ",", ":", '\\"model\\": \\"x\\"', "é東", "\x7f", "\u2028"]
ODD_TEXT = st.sampled_from(ESCAPES + TRAPS)
PLAIN_TEXT = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters='"\\'), max_size=6)
STRING = st.lists(ODD_TEXT | PLAIN_TEXT, max_size=4).map(lambda parts: '"' + "".join(parts) + '"')
NUMBER = st.sampled_from(["1.50", "1e400", "-0", "-0.0", "1E+2", "0.1e-7", "1e-400"]) | st.integers(
    -(10**25), 10**25
).map(str)
LEAF = STRING | NUMBER | st.sampled_from(["true", "false", "null"])


def _array(items: list[str], space: str) -> str:
    return "[" + f"{space},{space}".join(items) + space + "]"


def _object(members: list[tuple[str, str]], space: str) -> str:
    inner = f"{space},{space}".join(f"{key}{space}:{space}{value}" for key, value in members)
    return "{" + space + inner + space + "}"


VALUE = st.recursive(
    LEAF,
    lambda inner: (
        st.builds(_array, st.lists(inner, max_size=3), SPACE)
        | st.builds(_object, st.lists(st.tuples(STRING | st.just('"model"'), inner), max_size=3), SPACE)
    ),
    max_leaves=8,
)


@st.composite
def odd_bodies(draw: st.DrawFn) -> Split:
    """A chat body with a `model`, `messages`, and members that no vendor knows."""
    keys = draw(st.lists(STRING, max_size=5, unique=True))
    members = [('"x' + key[1:], draw(VALUE)) for key in keys]
    members.insert(draw(st.integers(0, len(members))), ('"messages"', draw(VALUE)))
    place = draw(st.integers(0, len(members)))
    spelt = draw(st.sampled_from(['"model"', '"mod\\u0065l"', '"\\u006dodel"']))
    space = draw(SPACE)

    def join(some: list[tuple[str, str]]) -> list[str]:
        return [f"{key}{draw(SPACE)}:{space}{value}{space}" for key, value in some]

    before = draw(SPACE) + "{" + ",".join([*join(members[:place]), f"{space}{spelt}{draw(SPACE)}:{space}"])
    after = ",".join([draw(SPACE), *(space + each for each in join(members[place:]))]) + "}" + draw(SPACE)
    return Split(before.encode(), draw(STRING | st.just("null")).encode(), after.encode())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(bodies=st.lists(odd_bodies(), min_size=1, max_size=4))
async def test_odd_json_differs_in_the_models_value_only(bodies: list[Split]) -> None:
    async with wire() as line:
        for body in bodies:
            for user, model in ((FINETUNED_USER, FINETUNED), (BASELINE_USER, BASELINE)):
                assert (await line.ask(chat(body.whole, user=user))).status == 200
                assert line.sent().body == body.with_model(model)
            assert (await line.ask(chat(body.whole, agent="nobody"))).status == 200
            assert line.sent().body == body.whole
        assert len(line.upstream.requests) == 3 * len(bodies)


# --- sizes ----------------------------------------------------------------------------------------


def body_of(size: int, model: str = "m") -> Split:
    """A body of exactly `size` bytes; every escape and number in it has a shorter spelling."""
    before = b'{ "temperature":1.50,"seed" : 12345678901234567890, "x":1e400,\n"model" : '
    value = json.dumps(model).encode()
    text = b'\\/\\u00e9 \xe6\x9d\xb1\xe4\xba\xac "model"'.replace(b'"', b'\\"')
    opening, closing = b' , "messages":[{"role":"user","content":"', b'"}] }'
    left = size - len(before) - len(value) - len(opening) - len(closing)
    filler = text * (left // len(text))
    return Split(before, value, opening + filler + b"." * (left - len(filler)) + closing)


@pytest.mark.parametrize("size", [1000, 65_535, 65_536, 65_537, 1 << 20, 10_000_000, LIMIT])
async def test_body_of_any_size_up_to_the_limit_keeps_its_bytes(size: int) -> None:
    body = body_of(size)
    assert len(body.whole) == size
    async with wire() as line:
        assert (await line.ask(chat(body.whole, user=FINETUNED_USER))).status == 200
        assert line.sent().body == body.with_model(FINETUNED)
        assert line.sent().all(b"content-length") == [b"%d" % len(body.with_model(FINETUNED))]


async def test_one_byte_above_the_limit_is_refused() -> None:
    async with wire(limits={"max_body": "4KiB"}) as line:
        assert (await line.ask(chat(body_of(4096).whole))).status == 200
        answer = await line.ask(chat(body_of(4097).whole))
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "body_too_large")
        assert len(line.upstream.requests) == 1


@pytest.mark.parametrize("size", [1, 7, 997])
async def test_body_that_trickles_in_keeps_its_bytes(size: int) -> None:
    body = body_of(3000)
    async with wire() as line:
        assert (await line.ask(chat(body.whole), size=size)).status == 200
        assert line.sent().body == body.with_model(BASELINE)


async def test_model_with_quotes_and_umlauts_arrives_as_valid_json() -> None:
    odd = 'ft:"möd\\el"/東'
    agents = {"qa_agent": {"fine_tuned": odd, "fallback": BASELINE}}
    async with wire(agents=agents, ab_testing={"enabled": False}) as line:
        await line.ask(chat(b'{"messages":[],"model":"m"}'))
        assert json.loads(line.sent().body) == {"messages": [], "model": odd}


# --- bodies the policy does not touch -------------------------------------------------------------

UNTOUCHED = body_of(2000).whole


@pytest.mark.parametrize(
    ("target", "headers", "body"),
    [
        (CHAT, [("X-Agent", "nobody"), ("X-User-Id", FINETUNED_USER)], UNTOUCHED),
        (CHAT, [], UNTOUCHED),
        (CHAT, [], UNTOUCHED.replace(b'"x":1e400', b'"stream":true')),
        ("/v1/embeddings", [AGENT], UNTOUCHED),
        ("/v1/embeddings", [AGENT], b'{"model":"a","model":"b"'),
        ("/v1/fim/completions", [AGENT, ("X-User-Id", FINETUNED_USER)], UNTOUCHED),
        ("/v1/files", [], bytes(range(256)) * 9),
        ("/v1/audio/speech", [("Content-Encoding", "gzip")], b"\x1f\x8b\x08not really"),
    ],
)
async def test_body_outside_the_split_is_wholly_identical(
    target: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    async with wire() as line:
        assert (await line.ask(request("POST", target, body, headers))).status == 200
        assert line.sent().body == body
        assert line.sent().all(b"content-length") == [b"%d" % len(body)]


# --- bodies that cannot be split ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b","messages":[]}',
        b'{"model":"a","messages":[],"model":"a"}',
        b'{"model":"a","messages":[],"mod\\u0065l":"b"}',
        b'{"\\u006d\\u006f\\u0064\\u0065\\u006c":"a","model":null}',
    ],
)
@pytest.mark.parametrize("agent", ["qa_agent", "nobody"])
async def test_two_models_are_refused_before_any_upstream(body: bytes, agent: str) -> None:
    """ACCEPTANCE 2."""
    async with wire() as line:
        answer = await line.ask(chat(body, agent=agent))
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", None)
        assert "`model`" in error["message"]
        assert not line.upstream.requests
        assert (await line.ask(chat())).status == 200  # the connection lives on


@pytest.mark.parametrize(
    "body",
    [b"[]", b"null", b'"model"', b"7", b"", b"{", b'{"model":"a"', b'{"model":"a"} {}', b"\xff\xfe", b"{]"],
)
async def test_body_that_is_no_object_is_a_clear_400(body: bytes) -> None:
    """ACCEPTANCE 2."""
    async with wire() as line:
        answer = await line.ask(chat(body) if body else request("POST", CHAT, b"", [AGENT, ("Content-Length", "0")]))
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "bad_request")
        assert not line.upstream.requests


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"model":"%b"}'),
        (b' { "messages" : [] } ', b' { "model":"%b","messages" : [] } '),
        (b'{"model":"m"}', b'{"model":"%b"}'),
        (b'{"model":{"deep":[1]},"messages":null}', b'{"model":"%b","messages":null}'),
    ],
)
async def test_missing_model_or_messages_is_the_upstreams_to_judge(body: bytes, expected: bytes) -> None:
    """ACCEPTANCE 2."""
    async with wire() as line:
        assert (await line.ask(chat(body))).status == 200
        assert line.sent().body == expected % BASELINE.encode()

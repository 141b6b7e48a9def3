"""Where agent and user come from: DESIGN §3.2."""

import hashlib
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.config_identity import parse_source
from proxy.policy.snapshot import IdentityPolicy
from proxy.split.identity import identify_agent, identify_user, split_agent_path
from proxy.wire.body import Body

TOKEN = b"sk-qa"
KNOWN: dict[bytes, object] = {b"qa_agent": None, b"legal_agent": None}
DEFAULT_AGENT = ["header:x-agent", "baggage:agent", "path", "metadata:agent", "model"]
DEFAULT_USER = [
    "header:x-user-id",
    "baggage:user.id",
    "body:user",
    "body:safety_identifier",
    "metadata:user_id",
]


def identity(*, agent: list[str] | None = None, user: list[str] | None = None) -> IdentityPolicy:
    return IdentityPolicy(
        agent=tuple(map(parse_source, agent or [])),
        user=tuple(map(parse_source, user or [])),
        keys={hashlib.sha256(TOKEN).hexdigest(): b"qa_agent"},
        on_missing_user="baseline",
        allow_override=False,
        forward=False,
        headers=frozenset(),
    )


@dataclass
class Asked:
    """What a request says about who sent it."""

    headers: dict[bytes, bytes] = field(default_factory=dict)  # lower-case names
    path_agent: bytes | None = None
    body: bytes | None = b"{}"  # None: not held

    @property
    def parsed(self) -> Body | None:
        return None if self.body is None else Body(self.body)


def agent_of(asked: Asked, *sources: str) -> bytes | None:
    policy = identity(agent=list(sources) or DEFAULT_AGENT)
    return identify_agent(policy, asked.headers, asked.path_agent, asked.parsed, KNOWN)


def user_of(asked: Asked | bytes, *sources: str) -> bytes | None:
    asked = Asked(body=asked) if isinstance(asked, bytes) else asked
    return identify_user(identity(user=list(sources) or DEFAULT_USER), asked.headers, asked.parsed)


# --- one source at a time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "asked", "expected"),
    [
        ("header:X-Agent", Asked({b"x-agent": b"qa_agent"}), b"qa_agent"),
        ("header:x-agent", Asked({b"x-user-id": b"qa_agent"}), None),
        ("header:x-agent", Asked({b"x-agent": b""}), None),
        ("baggage:agent", Asked({b"baggage": b"a=b, agent = qa%5Fagent ;ttl=3, c=d"}), b"qa_agent"),
        ("baggage:agent", Asked({b"baggage": b"agents=qa_agent"}), None),
        ("baggage:agent", Asked(), None),
        ("path", Asked(path_agent=b"qa_agent"), b"qa_agent"),
        ("path", Asked(), None),
        ("body:agent", Asked(body=b'{"agent": "qa_agent"}'), b"qa_agent"),
        ("body:agent", Asked(body=None), None),
        ("metadata:agent", Asked(body=b'{"metadata": {"agent": "qa_agent"}}'), b"qa_agent"),
        ("metadata:agent", Asked(body=b'{"metadata": {"other": "qa_agent"}}'), None),
        ("metadata:agent", Asked(body=b'{"metadata": "agent"}'), None),
        ("metadata:agent", Asked(body=b'{"metadata": null}'), None),
        ("metadata:agent", Asked(body=b"{}"), None),
        ("metadata:agent", Asked(body=None), None),
        ("model", Asked(body=b'{"model": "qa_agent"}'), b"qa_agent"),
        ("model", Asked(body=b'{"model": "gpt-4o"}'), None),
        ("key", Asked({b"authorization": b"Bearer sk-qa"}), b"qa_agent"),
        ("key", Asked({b"authorization": b"bearer  sk-qa "}), b"qa_agent"),
        ("key", Asked({b"authorization": b"Bearer sk-other"}), None),
        ("key", Asked({b"authorization": b"Basic sk-qa"}), None),
        ("key", Asked(), None),
        ("default:qa_agent", Asked(), b"qa_agent"),
    ],
)
def test_agent_from_each_source(source: str, asked: Asked, expected: bytes | None) -> None:
    assert agent_of(asked, source) == expected


def test_agent_that_the_policy_does_not_know_is_still_named() -> None:
    assert agent_of(Asked({b"x-agent": b"stranger"})) == b"stranger"


@pytest.mark.parametrize(
    "hits",
    [
        ({b"x-agent": b"first", b"baggage": b"agent=second"}, b"third", b'{"model": "qa_agent"}'),
        ({b"baggage": b"agent=first"}, b"second", b'{"metadata": {"agent": "third"}}'),
        ({b"x-agent": b""}, b"first", b'{"metadata": {"agent": "second"}}'),
        ({}, None, b'{"model": "qa_agent", "metadata": {"agent": "first"}}'),
    ],
)
def test_first_source_that_has_an_agent_wins(hits: tuple[dict[bytes, bytes], bytes | None, bytes]) -> None:
    assert agent_of(Asked(*hits)) == b"first"


# --- the user, exactly as received ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"user": "alice@example.com"}', b"alice@example.com"),
        (b'{"user": "  padded "}', b"  padded "),
        (b'{"user": "Alice"}', b"Alice"),
        (b'{"user": "\\u00dcn\\u00efcode-\\ud83d\\ude0a"}', "Ünïcode-😊".encode()),
        (b'{"\\u0075ser": "alice"}', b"alice"),
        (b'{"user": 42}', b"42"),
        (b'{"user": 10000000000000000000000001}', b"10000000000000000000000001"),
        (b'{"user": -0.50}', b"-0.50"),
        (b'{"user": 1e3}', b"1e3"),
        (b'{"user": "first", "user": "last"}', b"last"),
        (b'{"user": null, "safety_identifier": "alice"}', b"alice"),
        (b'{"user": true, "safety_identifier": "alice"}', b"alice"),
        (b'{"user": ["bob"], "safety_identifier": "alice"}', b"alice"),
        (b'{"user": "", "metadata": {"user_id": "alice"}}', b"alice"),
        (b'{"user": " \\t", "metadata": {"user_id": 42}}', b"42"),
        (b'{"metadata": {"user_id": "first", "user_id": "last"}}', b"last"),
        (b'{"metadata": {"model": 1, "model": 2, "user_id": 42}}', b"42"),
        (b'{"metadata": {"user_id": 1.50, "user": {"user_id": "inner"}}}', b"1.50"),
        (b'{"metadata": {"user_id": "a\\"b"}}', b'a"b'),
        (b'{"metadata": {"user_id": true}}', None),
        (b'{"messages": [{"user": "inner"}]}', None),
        (b"{}", None),
    ],
)
@pytest.mark.parametrize("padding", [0, 200_000], ids=["short", "long"])
def test_user_of_a_body(body: bytes, expected: bytes | None, padding: int) -> None:
    assert user_of(body + b" " * padding) == expected


@pytest.mark.parametrize("escape", [b"\\ud800", b"\\uDFFF"])
def test_users_with_lone_surrogates_are_told_apart(escape: bytes) -> None:
    user = user_of(b'{"user": "a' + escape + b'"}')
    assert user
    assert user != user_of(b'{"user": "a"}')


@given(st.text().filter(lambda user: user.encode().strip()), st.booleans())
def test_user_in_a_body_arrives_as_the_text_it_is(user: str, escaped: bool) -> None:
    body = json.dumps({"user": user, "metadata": {"user_id": user}}, ensure_ascii=escaped).encode()
    assert user_of(body, "body:user") == user.encode()
    assert user_of(body, "metadata:user_id") == user.encode()


def test_user_of_a_number_is_the_user_of_its_digits() -> None:
    assert user_of(b'{"user": 42}') == user_of(b'{"user": "42"}')


@pytest.mark.parametrize("blank", [b"", b" ", b"\t ", b" \t  "])
def test_blank_user_is_no_user(blank: bytes) -> None:
    headers = {b"x-user-id": blank}
    assert user_of(Asked(headers)) is None
    assert user_of(Asked(headers, body=b'{"user": "alice"}')) == b"alice"


def test_user_is_read_from_headers_where_no_body_is_held() -> None:
    assert user_of(Asked({b"baggage": b"user.id=%E2%82%AC"}, body=None)) == "€".encode()
    assert user_of(Asked(body=None)) is None


# --- agents in the path -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "agent", "rest"),
    [
        (b"/agents/qa_agent/v1/chat/completions", b"qa_agent", b"/v1/chat/completions"),
        (b"/agents/qa_agent/v1/x?a=/b%2Fc", b"qa_agent", b"/v1/x?a=/b%2Fc"),
        (b"/agents/qa_agent//v1/../x", b"qa_agent", b"//v1/../x"),
        (b"/agents/qa_agent/", b"qa_agent", b"/"),
        (b"/agents/qa_agent", None, b"/agents/qa_agent"),
        (b"/agents//v1/models", None, b"/agents//v1/models"),
        (b"/agents/qa?x=/v1/models", None, b"/agents/qa?x=/v1/models"),
        (b"/agents", None, b"/agents"),
        (b"/Agents/qa_agent/v1", None, b"/Agents/qa_agent/v1"),
        (b"/v1/agents/qa_agent/v1", None, b"/v1/agents/qa_agent/v1"),
        (b"*", None, b"*"),
    ],
)
def test_agent_path(target: bytes, agent: bytes | None, rest: bytes) -> None:
    assert split_agent_path(target) == (agent, rest)


@given(st.binary())
def test_agent_path_loses_no_byte_of_a_target(target: bytes) -> None:
    agent, rest = split_agent_path(target)
    assert target == (rest if agent is None else b"/agents/" + agent + rest)

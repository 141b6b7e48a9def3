import pytest

from proxy.policy.config_identity import parse_source
from proxy.policy.snapshot import Source

from .samples import AGENTS, UPSTREAMS, compiled, parse, problem

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("header:X-Agent", Source("header", b"x-agent")),
        ("baggage:user.id", Source("baggage", b"user.id")),
        ("baggage:User", Source("baggage", b"User")),
        ("path", Source("path", b"")),
        ("body:safety_identifier", Source("body", b"safety_identifier")),
        ("metadata:user_id", Source("metadata", b"user_id")),
        ("model", Source("model", b"")),
        ("key", Source("key", b"")),
        ("default:qa_agent", Source("default", b"qa_agent")),
    ],
)
def test_source_is_kind_and_name(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "header",
        "header:",
        "header:x agent",
        "header:x-agent\n",
        "header:é",
        "Header:x",
        "cookie:x",
        "path:x",
        "model:",
        "key:x",
        "body:",
        "body:a b",
        "metadata:a/b",
        "baggage:a=b",
        "default:",
        "default:\x00",
    ],
)
def test_anything_else_is_no_source(text: str) -> None:
    with pytest.raises(ValueError, match="header:NAME, baggage:KEY"):
        parse_source(text)


@pytest.mark.parametrize("name", ["authorization", "Host", "content-length", "transfer-encoding"])
def test_header_the_request_needs_is_no_source(name: str) -> None:
    with pytest.raises(ValueError, match="no header the request itself needs"):
        parse_source(f"header:{name}")


def test_defaults_are_those_of_the_design() -> None:
    identity = parse(UPSTREAMS).identity
    assert identity.agent == ("header:x-agent", "baggage:agent", "path", "metadata:agent", "model")
    assert identity.user == (
        "header:x-user-id",
        "baggage:user.id",
        "body:user",
        "body:safety_identifier",
        "metadata:user_id",
    )
    assert (identity.on_missing_user, identity.allow_override, identity.forward) == ("baseline", False, False)


def test_wrong_source_is_reported_at_its_place_in_the_list() -> None:
    found = problem(f"{UPSTREAMS}identity:\n  agent:\n    - path\n    - heder:x\n")
    assert (found.line, found.column, found.key, found.value) == (6, 7, "identity.agent[1]", '"heder:x"')


@pytest.mark.parametrize("source", ["path", "model", "key"])
def test_source_of_agents_is_no_source_of_users(source: str) -> None:
    assert "name agents only" in problem(f"{UPSTREAMS}identity: {{user: [{source}]}}\n").expected


def test_default_agent_must_be_a_name() -> None:
    assert problem(f"{UPSTREAMS}identity: {{agent: ['default:a b']}}\n").key == "identity.agent[0]"


def test_one_source_instead_of_a_list_is_refused() -> None:
    found = problem(f"{UPSTREAMS}identity: {{agent: path}}\n")
    assert (found.value, found.expected) == ("text", "a list")


def test_keys_map_digests_to_agents() -> None:
    config = parse(f"{UPSTREAMS}{AGENTS}identity: {{agent: [key], keys: {{{DIGEST.upper()}: qa_agent}}}}\n")
    assert config.identity.keys == {DIGEST: "qa_agent"}


def test_token_instead_of_its_digest_is_refused_and_hidden() -> None:
    found = problem(f"{UPSTREAMS}{AGENTS}identity: {{agent: [key], keys: {{sk-live-token: qa_agent}}}}\n")
    assert (found.key, found.value) == ("identity.keys", "the key ***")


def test_key_of_an_unknown_agent_is_refused() -> None:
    found = problem(f"{UPSTREAMS}{AGENTS}identity: {{agent: [key], keys: {{{DIGEST}: qb_agent}}}}\n")
    assert found.key == "identity.keys.***"
    assert (found.value, found.expected) == ('"qb_agent"', "the name of an agent (qa_agent)")


def test_keys_nobody_looks_up_are_refused() -> None:
    found = problem(f"{UPSTREAMS}{AGENTS}identity: {{keys: {{{DIGEST}: qa_agent}}}}\n")
    assert found.expected == "no keys, or the source `key` in identity.agent"


@pytest.mark.parametrize(
    ("written", "networks"),
    [
        ("any", None),
        ("loopback", ["127.0.0.0/8", "::1/128"]),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("[loopback, 10.0.0.7]", ["127.0.0.0/8", "::1/128", "10.0.0.7/32"]),
        ("[10.0.0.0/8, any]", None),
        ("[]", []),
    ],
)
def test_trusted_peers_are_one_or_several(written: str, networks: list[str] | None) -> None:
    trusted = compiled(UPSTREAMS + AGENTS + f"identity: {{trusted: {written}}}\n").identity.trusted
    assert (None if trusted is None else [str(network) for network in trusted]) == networks


def test_everybody_is_trusted_where_the_policy_does_not_say() -> None:
    assert compiled(UPSTREAMS + AGENTS).identity.trusted is None


@pytest.mark.parametrize("written", ["localhost", "10.0.0.1/8", "[loopback, '*']", "5", "{a: b}", "null"])
def test_trusted_peers_of_another_form_are_one_problem(written: str) -> None:
    found = problem(UPSTREAMS + AGENTS + f"identity: {{trusted: {written}}}\n")
    assert found.key.startswith("identity.trusted")

"""Who is asking: the agent and the user, from the sources the policy lists; first hit wins."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from proxy.policy.snapshot import IdentityPolicy, Source
from proxy.wire.body import Body
from proxy.wire.headers import baggage_member

AGENT_PATH = b"/agents/"


class Evidence(NamedTuple):
    """What a request says about who sent it."""

    headers: Mapping[bytes, bytes]  # lower-case names
    path_agent: bytes | None
    body: Body | None  # None: not held, as on pass-through routes


def split_agent_path(target: bytes) -> tuple[bytes | None, bytes]:
    """`/agents/NAME/v1/…` → (NAME, `/v1/…`); any other target is (None, target)."""
    if not target.startswith(AGENT_PATH):
        return None, target
    name, slash, rest = target[len(AGENT_PATH) :].partition(b"/")
    if not slash or not name or b"?" in name:
        return None, target
    return name, b"/" + rest


def identify_agent(policy: IdentityPolicy, evidence: Evidence, known: Mapping[bytes, object]) -> bytes | None:
    """The agent's name as sent; it may be one the policy does not know."""
    for source in policy.agent:
        found = _look_up(source, evidence, policy.keys)
        # A client always sends some model: it names the agent only where it is an agent's name.
        if found and (source.kind != "model" or found in known):
            return found
    return None


def identify_user(policy: IdentityPolicy, evidence: Evidence) -> bytes | None:
    """The user exactly as received; None where no source has one that is not blank."""
    for source in policy.user:
        found = _look_up(source, evidence, policy.keys)
        if found and not found.isspace():
            return found
    return None


def _look_up(source: Source, evidence: Evidence, keys: Mapping[str, bytes]) -> bytes | None:  # noqa: PLR0911
    kind, name = source
    if kind == "header":
        return evidence.headers.get(name)
    if kind == "baggage":
        baggage = evidence.headers.get(b"baggage")
        return None if baggage is None else baggage_member(baggage, name)
    if kind == "path":
        return evidence.path_agent
    if kind == "key":
        return _agent_of_key(evidence.headers.get(b"authorization"), keys)
    if kind == "default":
        return name
    body = evidence.body
    if body is None:
        return None
    if kind == "metadata":
        return body.nested_text("metadata", name.decode())
    return body.text("model" if kind == "model" else name.decode())


def _agent_of_key(authorization: bytes | None, keys: Mapping[str, bytes]) -> bytes | None:
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return keys.get(hashlib.sha256(authorization[7:].strip()).hexdigest())

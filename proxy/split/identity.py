"""Who is asking: the agent and the user, from the sources the policy lists; first hit wins."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from proxy.policy.snapshot import IdentityPolicy, Policy, Source
from proxy.wire.body import Body
from proxy.wire.headers import baggage_member

AGENT_PATH: Final = b"/agents/"

# What a caller cannot simply claim: a key is proof, and a default is the policy's own word.
_SURE: Final = frozenset({"key", "default"})

# By lower-case name, as `wire.headers.RequestSorter` reads them.
Headers = dict[bytes, bytes]


def split_agent_path(target: bytes) -> tuple[bytes | None, bytes]:
    """`/agents/NAME/v1/…` → (NAME, `/v1/…`); any other target is (None, target)."""
    if not target.startswith(AGENT_PATH):
        return None, target
    name, slash, rest = target[len(AGENT_PATH) :].partition(b"/")
    if not slash or not name or b"?" in name:
        return None, target
    return name, b"/" + rest


def for_strangers(policy: Policy) -> Policy:
    """The same policy for who is not in `identity.trusted`: nothing counts that a caller merely says of itself."""
    identity = policy.identity
    if identity.trusted is None:
        return policy
    strict = replace(
        identity, agent=_sure(identity.agent), user=_sure(identity.user), allow_override=False, forward=False
    )
    return replace(policy, identity=strict)


def _sure(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    return tuple(source for source in sources if source.kind in _SURE)


def identify_agent(
    policy: IdentityPolicy,
    headers: Headers,
    path_agent: bytes | None,
    body: Body | None,
    known: Mapping[bytes, object],
) -> bytes | None:
    """The agent's name as sent; it may be one the policy does not know.

    `body` is None where it is not held, as on pass-through routes.
    """
    for kind, name in policy.agent:
        if kind == "header":
            found = headers.get(name)
        elif kind == "path":
            found = path_agent
        elif kind == "key":
            found = _agent_of_key(headers.get(b"authorization"), policy.keys)
        elif kind == "model":
            # A client always sends some model: it names the agent only where it is an agent's name.
            found = None if body is None else body.text("model")
            found = found if found in known else None
        else:
            found = _look_up(kind, name, headers, body)
        if found:
            return found
    return None


def identify_user(policy: IdentityPolicy, headers: Headers, body: Body | None) -> bytes | None:
    """The user exactly as received; None where no source has one that is not blank."""
    for kind, name in policy.user:
        found = headers.get(name) if kind == "header" else _look_up(kind, name, headers, body)
        if found and not found.isspace():
            return found
    return None


def _look_up(kind: str, name: bytes, headers: Headers, body: Body | None) -> bytes | None:
    """The sources that agents and users share, apart from plain headers."""
    if kind == "default":
        return name
    if kind == "baggage":
        baggage = headers.get(b"baggage")
        return None if baggage is None else baggage_member(baggage, name)
    if body is None:
        return None
    if kind == "metadata":
        return body.nested_text("metadata", name.decode())
    return body.text(name.decode())


def _agent_of_key(authorization: bytes | None, keys: Mapping[str, bytes]) -> bytes | None:
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return keys.get(hashlib.sha256(authorization[7:].strip()).hexdigest())

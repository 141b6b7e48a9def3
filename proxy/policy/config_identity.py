"""`identity:` of the policy file: where agent and user come from."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from proxy.policy.address import parse_peers
from proxy.policy.facts import known_agent
from proxy.policy.fields import Flag, Section, form
from proxy.policy.snapshot import Source

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")  # RFC 9110 §5.6.2, baggage keys alike
_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# An identity header is removed before the upstream; without these a request would break or lose its key.
_NEEDED_HEADERS = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def parse_source(text: str) -> Source:
    """`header:X-Agent` is ("header", b"x-agent"), `path` is ("path", b"").

    Raises `ValueError` for anything that is not a source, in words for people.
    """
    kind, colon, name = text.partition(":")
    match kind:
        case "path" | "model" | "key":
            valid = not colon
        case "header":
            name = name.lower()
            valid = bool(_TOKEN.fullmatch(name)) and name not in _NEEDED_HEADERS
        case "baggage":
            valid = bool(_TOKEN.fullmatch(name))
        case "body" | "metadata":
            valid = bool(_FIELD.fullmatch(name))
        case "default":
            valid = 0 < len(name) <= 256 and name.isprintable()
        case _:
            valid = False
    if not valid:
        raise ValueError(
            "header:NAME, baggage:KEY, path, body:FIELD, metadata:KEY, model, key or default:VALUE"
            + (" (and no header the request itself needs)" if kind == "header" else "")
        )
    return Source(kind, name.encode())


def _check_agent_source(text: str) -> str:
    source = parse_source(text)
    if source.kind == "default" and not re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", source.name):
        raise ValueError("default: with an agent's name")
    return text


def _check_user_source(text: str) -> str:
    if parse_source(text).kind in ("path", "model", "key"):
        raise ValueError("a source of users (path, model and key name agents only)")
    return text


def _check_digest(text: str) -> str:
    digest = text.lower()
    if not _SHA256.fullmatch(digest):
        raise ValueError("the SHA-256 of a bearer token in hexadecimal (never the token itself)")
    return digest


def _check_peers(text: str) -> str:
    parse_peers(text)
    return text


def _one_or_several(value: object) -> object:
    return [value] if isinstance(value, str) else value


_VALUED = rf"(header|baggage):{_TOKEN.pattern}|(body|metadata):{_FIELD.pattern}|default"

AgentSource = Annotated[
    str, AfterValidator(_check_agent_source), form(rf"^(path|model|key|{_VALUED}:[A-Za-z0-9._-]{{1,64}})$")
]
UserSource = Annotated[str, AfterValidator(_check_user_source), form(rf"^({_VALUED}:.{{1,256}})$")]
Digest = Annotated[str, AfterValidator(_check_digest), form("^[0-9a-fA-F]{64}$")]
KnownAgent = Annotated[str, AfterValidator(known_agent)]
_PEERS: dict[str, object] = {"type": "string", "pattern": "^(any|loopback|[0-9A-Fa-f.:]+(/[0-9]{1,3})?)$"}
TrustedPeers = Annotated[
    tuple[Annotated[str, AfterValidator(_check_peers)], ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema({"anyOf": [_PEERS, {"type": "array", "items": _PEERS}]}),
]


class IdentityConfig(Section):
    """Ordered sources, first hit wins."""

    agent: tuple[AgentSource, ...] = (
        "header:x-agent",
        "baggage:agent",
        "path",
        "metadata:agent",
        "model",
    )
    """`header:NAME`, `baggage:KEY`, `path`, `body:FIELD`, `metadata:KEY`, `model`, `key`, `default:VALUE`."""
    user: tuple[UserSource, ...] = (
        "header:x-user-id",
        "baggage:user.id",
        "body:user",
        "body:safety_identifier",
        "metadata:user_id",
    )
    """The same sources, without `path`, `model` and `key`."""
    keys: dict[Digest, KnownAgent] = Field(default_factory=dict)
    """For the source `key`: the SHA-256, in hex, of a client's bearer token, and whose it is."""
    on_missing_user: Literal["baseline", "random", "reject"] = "baseline"
    """A request without a user: the baseline, a draw of its own each time, or 400 `missing_user`."""
    allow_override: Flag = False  # a caller who chooses the variant can spend the fine-tune's money
    """Whether the request header `x-splitlane-variant: baseline` or `finetuned` forces a variant."""
    forward: Flag = False  # who the user is, is not the upstream's business
    """Whether identity headers reach the upstream."""
    trusted: TrustedPeers = ("any",)  # by default only this host reaches the listener, so there is nobody to doubt
    """Whose word is taken for who asks: `any`, `loopback`, an address or a network, or a list of them."""

    @field_validator("keys")
    @classmethod
    def _keys_are_used(cls, keys: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if keys and "key" not in info.data.get("agent", ("key",)):
            raise ValueError("no keys, or the source `key` in identity.agent")
        return keys

"""What each vendor's chat endpoint refuses, and the name it has for the same thing.

OpenAI ignores nothing silently and Mistral answers 422 `extra_forbidden`, so a fine-tune on one
and a baseline on the other see different fields.  Sources: the openai and mistralai SDKs' request
models, and Mistral's published `extra_forbidden` answers.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from proxy.policy.snapshot import Target
from proxy.wire.body import Body, Edit, inside
from proxy.words import Dialect

_REFUSED: Final[dict[Dialect, frozenset[str]]] = {
    Dialect.MISTRAL: frozenset(
        {"audio", "function_call", "functions", "logit_bias", "modalities", "moderation",
         "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
         "store", "stream_options", "user", "verbosity", "web_search_options"}
    ),
    Dialect.OPENAI: frozenset(
        {"document_image_limit", "document_page_limit", "guardrails", "min_tokens", "prompt_mode",
         "prompt_logprobs", "repetition_penalty", "safe_prompt", "top_k", "top_prompt_logprobs"}
    ),
}  # fmt: skip

_RENAMED: Final[dict[Dialect, dict[str, str]]] = {
    Dialect.MISTRAL: {"max_completion_tokens": "max_tokens", "seed": "random_seed"},
    Dialect.OPENAI: {"random_seed": "seed"},
}

# What a body must not have to need no adapting.
_FOREIGN: Final = {dialect: _REFUSED[dialect].union(_RENAMED[dialect]) for dialect in Dialect}

# A default is left out where the client sent the same thing under another name.
_SAME_MEANING: Final = {b'"max_tokens"': "max_completion_tokens"}

_NONE: Final[frozenset[str]] = frozenset()
# Not for a request that is asked once more for nobody: whether to stream, and whether to keep the answer.
_OF_THE_CLIENT: Final = frozenset({"stream", "stream_options", "store"})
_INCLUDE_USAGE: Final = b'"stream_options":{"include_usage":true}'


def render(
    body: Body, target: Target, defaults: tuple[tuple[bytes, bytes], ...], *, stream: bool, copy: bool = False
) -> tuple[bytes, bool, AbstractSet[str]]:
    """The client's body for `target`: its model, the missing params, no field it would refuse.

    Also: whether we made it ask for the usage event, which then must not reach the client, and the
    names of the fields that were renamed or dropped.

    A `copy` is for one answer in one piece, which the upstream is not to keep, whatever the client asked for.

    Raises BodyError where fields must go and the body cannot be scanned.
    """
    names = body.names
    dialect = target.upstream.dialect
    new = target.model_json
    for key, value in defaults:
        if key[1:-1].decode() not in names and _SAME_MEANING.get(key) not in names:
            new += b"," + key + b":" + value

    left_out = _NONE
    if copy:
        left_out = _OF_THE_CLIENT
        new += b',"stream":false'
    edits: list[Edit] = []
    usage_injected = False
    if stream and dialect is Dialect.OPENAI:
        usage_injected, asked = _ask_for_usage(body, edits)
        new += asked
    adapted: AbstractSet[str] = _NONE
    if not names.isdisjoint(_FOREIGN[dialect]):
        adapted = names & _FOREIGN[dialect]
    if adapted or not names.isdisjoint(left_out):
        _adapt(body, dialect, left_out, edits)

    if body.model is None:
        body.members()
        more = b"" if names <= _REFUSED[dialect] | left_out else b","
        edits.append(Edit(body.after_brace, body.after_brace, b'"model":' + new + more))
    else:
        start, end = body.model
        if not edits:
            return body.raw[:start] + new + body.raw[end:], usage_injected, adapted
        edits.append(Edit(start, end, new))
    return body.spliced(edits), usage_injected, adapted


def _adapt(body: Body, dialect: Dialect, left_out: frozenset[str], edits: list[Edit]) -> None:
    """Rename what has another name at the upstream, drop what has none, and what is to be left out."""
    dropped = {*_REFUSED[dialect], *left_out}
    for name, new in _RENAMED[dialect].items():
        if new in body.names:
            dropped.add(name)  # the upstream's own name wins
            continue
        quoted = b'"' + new.encode() + b'"'
        for member in body.members():
            if member.name == name:
                key_end = body.raw.index(b":", member.start)
                edits.append(Edit(member.start, key_end, quoted))
    edits += body.without(dropped)


def _ask_for_usage(body: Body, edits: list[Edit]) -> tuple[bool, bytes]:
    """Make the stream report its tokens: whether the client had not asked for that, and what to add."""
    if "stream_options" not in body.names:
        return True, b"," + _INCLUDE_USAGE
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or options.get("include_usage")):
        return False, b""  # asked for; or no options at all, which the upstream will say
    member = next(member for member in reversed(body.members()) if member.name == "stream_options")
    raw = b"{}" if options is None else body.raw[member.value : member.end]
    edits.append(Edit(member.value, member.end, inside(raw, "include_usage", b"true")))
    return True, b""

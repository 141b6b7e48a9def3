"""What each vendor's chat endpoint refuses, and the name it has for the same thing.

OpenAI ignores nothing silently and Mistral answers 422 `extra_forbidden`, so a fine-tune on one
and a baseline on the other see different fields.  Sources: the openai and mistralai SDKs' request
models, and Mistral's published `extra_forbidden` answers.
"""

from typing import NamedTuple

import orjson

from proxy.policy.snapshot import Target
from proxy.wire.body import Body, Edit
from proxy.words import Dialect

_REFUSED: dict[Dialect, frozenset[bytes]] = {
    Dialect.MISTRAL: frozenset(
        {b"audio", b"function_call", b"functions", b"logit_bias", b"modalities", b"moderation",
         b"prompt_cache_options", b"prompt_cache_retention", b"safety_identifier",
         b"service_tier", b"store", b"stream_options", b"user", b"verbosity", b"web_search_options"}
    ),
    Dialect.OPENAI: frozenset(
        {b"document_image_limit", b"document_page_limit", b"guardrails", b"min_tokens", b"prompt_mode",
         b"prompt_logprobs", b"repetition_penalty", b"safe_prompt", b"top_k", b"top_prompt_logprobs"}
    ),
}  # fmt: skip

_RENAMED: dict[Dialect, dict[bytes, bytes]] = {
    Dialect.MISTRAL: {b"max_completion_tokens": b"max_tokens", b"seed": b"random_seed"},
    Dialect.OPENAI: {b"random_seed": b"seed"},
}

# A default is left out where the client sent the same thing under another name.
_SAME_MEANING = {b'"max_tokens"': b"max_completion_tokens"}

_INCLUDE_USAGE = b'"stream_options":{"include_usage":true}'


class Rendered(NamedTuple):
    """A request body as one target takes it."""

    body: bytes
    usage_injected: bool  # we asked for the usage event; it must not reach the client
    adapted: tuple[bytes, ...]  # names of the fields that were renamed or dropped


def render(
    body: Body, target: Target, defaults: tuple[tuple[bytes, bytes], ...], *, stream: bool
) -> Rendered:
    """The client's body for `target`: its model, the missing params, no field it would refuse."""
    named = body.named
    dialect = target.upstream.dialect
    added = [
        key + b":" + value
        for key, value in defaults
        if key[1:-1] not in named and _SAME_MEANING.get(key) not in named
    ]
    edits: list[Edit] = []
    adapted: tuple[bytes, ...] = ()

    refused = named.keys() & _REFUSED[dialect]
    renamed = named.keys() & _RENAMED[dialect].keys()
    if refused or renamed:
        dropped = set(refused)
        for name in renamed:
            _rename(body, name, _RENAMED[dialect][name], dropped, edits)
        edits += body.without(dropped)
        adapted = (*refused, *renamed)

    usage_injected = False
    if stream and dialect is Dialect.OPENAI:
        usage_injected = _ask_for_usage(body, edits, added)

    model = named.get(b"model")
    if model is not None:
        edits.append(Edit(model.value, model.end, b",".join([target.model_json, *added])))
    else:
        tail = b"," if len(adapted) < len(body.members) else b""
        members = b",".join([b'"model":' + target.model_json, *added])
        edits.append(Edit(body.after_brace, body.after_brace, members + tail))
    return Rendered(body.spliced(edits), usage_injected, adapted)


def _rename(body: Body, name: bytes, new: bytes, dropped: set[bytes], edits: list[Edit]) -> None:
    """Give every member `name` the key `new`; where `new` is there already, it wins."""
    if new in body.named:
        dropped.add(name)
        return
    quoted = b'"' + new + b'"'
    for member in body.members:
        if member.name == name:
            key_end = body.raw.index(b":", member.start)
            edits.append(Edit(member.start, key_end, quoted))


def _ask_for_usage(body: Body, edits: list[Edit], added: list[bytes]) -> bool:
    """Make the stream report its tokens; True if the client had not asked for that itself."""
    options = body.value(b"stream_options")
    member = body.named.get(b"stream_options")
    if member is None:
        added.append(_INCLUDE_USAGE)
        return True
    if not isinstance(options, dict):
        if options is not None:
            return False  # neither an object nor null: the upstream's to refuse
        options = {}
    elif options.get("include_usage"):
        return False
    edits.append(Edit(member.value, member.end, orjson.dumps({**options, "include_usage": True})))
    return True

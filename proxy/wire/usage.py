"""Token counts as both vendors report them."""

from typing import Any, Final

from proxy.words import Usage

# Where an upstream does not count tokens: JSON around English text has about this many bytes for each.
BYTES_PER_TOKEN: Final = 4
# A count beyond this is none: no model reads or writes so much, and sums of such counts overflow the store's columns.
MOST_TOKENS: Final = 2**31 - 1


def read_usage(answer: Any) -> Usage | None:
    """The `usage` of a parsed answer or stream chunk; None where it has none that makes sense."""
    usage = answer.get("usage") if type(answer) is dict else None
    if type(usage) is not dict:
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") if details else 0
    details = usage.get("completion_tokens_details")
    reasoning = _count(details, "reasoning_tokens") if details else 0
    return Usage(_sane(prompt), _sane(completion), cached, reasoning)


def _count(details: Any, name: str) -> int:
    return _sane(details.get(name)) if type(details) is dict else 0


def _sane(count: Any) -> int:
    return count if type(count) is int and 0 < count <= MOST_TOKENS else 0

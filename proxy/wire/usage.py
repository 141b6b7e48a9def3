"""Token counts as both vendors report them."""

from typing import Any

from proxy.words import Usage


def read_usage(answer: Any) -> Usage | None:
    """The `usage` of a parsed answer or stream chunk; None where it has none that makes sense."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return None
    return Usage(
        prompt=_count(usage, "prompt_tokens"),
        completion=_count(usage, "completion_tokens"),
        cached=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(holder: Any, name: str) -> int:
    count = holder.get(name) if isinstance(holder, dict) else None
    return count if isinstance(count, int) and count > 0 else 0

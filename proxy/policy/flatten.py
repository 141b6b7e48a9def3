"""The typed policy as flat settings: every key that holds for all agents, defaults included."""

import hashlib
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from proxy.policy.config import PolicyConfig
from proxy.policy.settings import Secret, Settings, text

# What agents make of these is told agent by agent.
_OF_AGENTS = {"agents", "prices", "extends"}


def global_settings(config: PolicyConfig) -> Settings:
    """What holds for all agents, every key of it, defaults included."""
    written = config.model_dump(mode="json", by_alias=True, exclude=_OF_AGENTS)
    typed = config.model_dump(by_alias=True, exclude=_OF_AGENTS)
    # Tokens' digests are as good as the tokens where those are weak.
    keys = repr(sorted(config.identity.keys.items())) if config.identity.keys else ""
    written["identity"]["keys"] = typed["identity"]["keys"] = SecretStr(keys)
    return dict(_flat("", written, typed))


def _flat(key: str, written: Any, typed: Any) -> Iterator[tuple[str, str]]:
    """The leaves; `typed` has the secrets that `written` hides."""
    if isinstance(typed, SecretStr):
        yield key, _secret(typed.get_secret_value())
    elif isinstance(written, dict):
        for name, child in written.items():
            yield from _flat(f"{key}.{name}" if key else str(name), child, typed[name])
    elif isinstance(written, list) and any(isinstance(item, dict) for item in written):
        for index, child in enumerate(written):
            yield from _flat(f"{key}[{index}]", child, typed[index])
    elif isinstance(written, list):
        yield key, ", ".join(map(text, written)) or "none"
    elif isinstance(written, str) and "://" in written and "?" in written:
        yield key, _secret(written)  # some vendors want a token in the query
    else:
        yield key, text(written)


def _secret(value: str) -> Secret:
    return Secret(hashlib.sha256(value.encode()).hexdigest() if value else "")

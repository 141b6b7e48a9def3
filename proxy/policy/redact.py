"""A policy as it may be shown to anybody who can reach the admin listener.  Pure.

Secrets are typed: what `config.py` declares a secret is shown as `***`.  So are the digests of client keys, which
are as good as the keys where those are weak, and the queries of URLs, where some vendors want a token.
"""

from typing import Any

from pydantic import SecretStr

from proxy.policy.config import PolicyConfig
from proxy.policy.problems import HIDDEN


def redacted(config: PolicyConfig) -> dict[str, Any]:
    """The whole policy with all defaults, by the file's own keys; durations in seconds, sizes in bytes."""
    shown: dict[str, Any] = _shown(config.model_dump(by_alias=True))
    agents = shown["identity"]["keys"].values()
    shown["identity"]["keys"] = [f"{HIDDEN}: {agent}" for agent in agents]
    return shown


def _shown(value: Any) -> Any:
    match value:
        case dict():
            return {key: _shown(item) for key, item in value.items()}
        case list() | tuple():
            return [_shown(item) for item in value]
        case SecretStr():
            return HIDDEN
        case str() if "://" in value and "?" in value:
            return f"{value.partition('?')[0]}?{HIDDEN}"
        case _:
            return value

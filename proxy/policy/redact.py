"""A policy as it may be shown to anybody who can reach the admin listener.  Pure.

Secrets are typed, and what the configuration declares a secret is shown as stars.  Hidden too are the
digests of client keys, which are as good as the keys where those are weak, and the queries of URLs, where
some vendors want a token.
"""

from typing import Any

from proxy.policy.config import PolicyConfig
from proxy.policy.problems import HIDDEN


def redacted(config: PolicyConfig) -> dict[str, Any]:
    """The whole policy with all defaults, as a file would say it."""
    shown: dict[str, Any] = _shown(config.model_dump(mode="json", by_alias=True))
    agents = shown["identity"]["keys"].values()
    shown["identity"]["keys"] = [f"{HIDDEN}: {agent}" for agent in agents]
    return shown


def _shown(value: Any) -> Any:
    match value:
        case dict():
            return {key: _shown(item) for key, item in value.items()}
        case list() | tuple():
            return [_shown(item) for item in value]
        case str() if "://" in value and "?" in value:
            return f"{value.partition('?')[0]}?{HIDDEN}"
        case _:
            return value

"""The effective policy as it may be shown: pure.

Hidden as `***` are secrets, everything that came through `${…}`, URLs with a password, and the digests
of `identity.keys`, which stem from tokens.  Times are seconds, sizes bytes, as the proxy uses them.
"""

from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from proxy.policy.config import PolicyConfig
from proxy.policy.problems import HIDDEN, Path, show_value

_KEYS: Path = ("identity", "keys")


def redact(config: PolicyConfig, expanded: frozenset[Path]) -> object:
    """A policy's configuration, defaults included, as plain data; `expanded` came through `${…}`."""
    return _redact(config.model_dump(by_alias=True), (), expanded)


def _redact(value: object, path: Path, expanded: frozenset[Path]) -> object:
    # A short form stands for a mapping: what is below an expanded value is hidden with it.
    if path in expanded or isinstance(value, SecretStr):
        return HIDDEN
    if path == _KEYS and isinstance(value, Mapping):
        return {HIDDEN: sorted(value.values())} if value else {}
    if isinstance(value, Mapping):
        return {str(key): _redact(child, (*path, key), expanded) for key, child in value.items()}
    if isinstance(value, str):
        return HIDDEN if show_value(value, path) == HIDDEN else str(value)
    if isinstance(value, Sequence):
        return [_redact(child, (*path, index), expanded) for index, child in enumerate(value)]
    return value

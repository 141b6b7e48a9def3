"""What one section's check needs to know of the others.

Taken from the file's raw data before validation, so that a wrong reference is reported together with
everything else that is wrong, and not only once the rest is right.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationInfo


class Facts(NamedTuple):
    """Passed as pydantic's validation context."""

    upstreams: tuple[str, ...]  # names, in the file's order
    agents: tuple[str, ...]
    compat: object  # the file's `compat`, unchecked
    percentage: object  # its `ab_testing.rollout_percentage`, unchecked


def gather_facts(data: object) -> Facts:
    """The facts of a policy file's plain data, whatever shape that has."""
    ab_testing = _mapping(_mapping(data).get("ab_testing"))
    return Facts(
        upstreams=tuple(_mapping(_mapping(data).get("upstreams"))),
        agents=tuple(_mapping(_mapping(data).get("agents"))),
        compat=_mapping(data).get("compat"),
        percentage=ab_testing.get("rollout_percentage"),
    )


def facts_of(info: ValidationInfo) -> Facts:
    """The facts of the file being validated."""
    assert isinstance(info.context, Facts), "sections are validated by validate_policy"
    return info.context


def known_upstream(name: str, info: ValidationInfo) -> str:
    """The name, if `upstreams:` has it."""
    upstreams = facts_of(info).upstreams
    if name not in upstreams:
        raise ValueError(f"the name of an upstream ({_listed(upstreams)})")
    return name


def known_agent(name: str, info: ValidationInfo) -> str:
    """The name, if `agents:` has it."""
    agents = facts_of(info).agents
    if name not in agents:
        raise ValueError(f"the name of an agent ({_listed(agents)})")
    return name


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "") if names else "the file names none"

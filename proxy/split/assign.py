"""The formula of the split: pure, the same on every proxy, process and Python version.

    key    = utf8(salt + ":" + user)
    bucket = (murmur3_x86_32(key, seed 0) * 10000) >> 32
    fine-tuned iff bucket < round(percentage * 100)

Changing a bucket is a breaking change: tests/vectors/assignment.json pins it.
"""

from typing import Final, NamedTuple

import mmh3

from proxy.policy.snapshot import AgentPolicy, ShadowPolicy
from proxy.words import Assignment, Decision, Variant

BUCKETS: Final = 10_000

_hash: Final = mmh3.hash
_FINETUNED: Final = Variant.FINETUNED
_FINETUNED_ARM: Final = Assignment.FINETUNED
_BASELINE: Final = Variant.BASELINE
_BASELINE_ARM: Final = Assignment.BASELINE
UNASSIGNED: Final = Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1)
_EVERYONE: Final = Decision(Variant.FINETUNED, Assignment.FINETUNED, -1)
_OVERRIDES: Final = {variant.value.encode(): Decision(variant, Assignment.OVERRIDE, -1) for variant in Variant}


def murmur3(salt: str, user: bytes) -> int:
    """The user's unsigned 32-bit hash under a salt."""
    return _hash(salt.encode() + b":" + user, 0, False)


def bucket_of(hashed: int) -> int:
    """The bucket, 0 … 9999, of a 32-bit hash."""
    return (hashed * BUCKETS) >> 32


def assign(agent: AgentPolicy, user: bytes | None) -> Decision:
    """The variant of a user; `user` is exactly as received, None or blank where there is none."""
    if not user or user.isspace():
        return _EVERYONE if agent.everyone else UNASSIGNED
    hashed = _hash(agent.hashed + user, 0, False)
    bucket = bucket_of(hashed)
    finetuned = (hashed % 100) + 1 <= agent.percentage if agent.unleash else bucket < agent.threshold
    return Decision(_FINETUNED, _FINETUNED_ARM, bucket) if finetuned else Decision(_BASELINE, _BASELINE_ARM, bucket)


def is_copied(shadow: ShadowPolicy, request_id: str) -> bool:
    """Whether a request is drawn for its agent's shadow: by its own id, whoever the user is."""
    return bucket_of(_hash(shadow.hashed + request_id, 0, False)) < shadow.threshold


def override(requested: bytes) -> Decision | None:
    """The decision a client forces with `x-splitlane-variant`; None for an unknown variant."""
    return _OVERRIDES.get(requested.strip().lower())


class Explanation(NamedTuple):
    """Why a user is in a variant."""

    hash: int  # unsigned, 32 bits
    bucket: int  # 0 … 9999
    variant: Variant
    enters_at: float  # the lowest percentage at which the user is fine-tuned, under this salt and formula


def explain(agent: AgentPolicy, user: bytes) -> Explanation | None:
    """What `assign` decides for a user, and from what; None for a blank user, who is never hashed."""
    decision = assign(agent, user)
    if decision.bucket < 0:
        return None
    hashed = murmur3(agent.salt, user)
    enters_at = float(hashed % 100 + 1) if agent.unleash else (decision.bucket + 1) / 100
    return Explanation(hashed, decision.bucket, decision.variant, enters_at)

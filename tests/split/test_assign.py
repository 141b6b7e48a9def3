"""The laws of ASSIGNMENT.md; the vectors are the contract with every other implementation."""

import json
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ids import Ids
from proxy.policy.snapshot import AgentPolicy
from proxy.split.assign import BUCKETS, UNASSIGNED, assign, bucket_of, explain, is_copied, murmur3, override
from proxy.words import Assignment, Decision, Variant
from tests.policy.samples import compiled

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "assignment.json").read_text("utf-8"))
# The five fine-tunes the vectors name: agent → model.
FINETUNES = {vector["agent"]: vector["salt"].partition("/")[2] for vector in VECTORS["assignments"]}
UNLEASH = ", salt: group, compat: unleash"
CROWD = [b"user-%d" % number for number in range(100_000)]

users = st.one_of(st.binary(), st.text().map(str.encode)).filter(bytes.strip)
salts = st.text("aZ09 /:.-ü€😊", min_size=1)
# Steps of 0.01 %, as a policy may have them.
percentages = st.integers(0, BUCKETS).map(lambda step: step / 100)


@cache
def agent_of(
    percentage: float = 10,
    agent: str = "qa_agent",
    model: str = FINETUNES["qa_agent"],
    extra: str = "",
    switches: str = "",
) -> AgentPolicy:
    """One agent's compiled policy; `extra` are more keys of the agent, `switches` more sections."""
    text = f"""
upstreams: {{mistral: {{base_url: "https://api.mistral.ai", dialect: mistral}}}}
agents: {{{agent}: {{fine_tuned: "{model}", fallback: base, rollout_percentage: {percentage}{extra}}}}}
{switches}
"""
    return compiled(text).agents[agent.encode()]


def finetuned(agent: AgentPolicy, user: bytes) -> bool:
    return assign(agent, user).variant is Variant.FINETUNED


# --- the vectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seed", "expected"), VECTORS["murmur3"])
def test_hash_is_murmur3_x86_32(text: str, seed: int, expected: int) -> None:
    assert mmh3.hash(text.encode(), seed, False) == expected


@pytest.mark.parametrize(("text", "hashed", "bucket"), VECTORS["boundary"])
def test_bucket_at_the_ends_of_the_hash(text: str, hashed: int, bucket: int) -> None:
    assert mmh3.hash(text.encode(), 0, False) == hashed
    assert bucket_of(hashed) == bucket


@pytest.mark.parametrize("vector", VECTORS["assignments"], ids=lambda vector: f"{vector['agent']}-{vector['user']}")
def test_assignment_vector(vector: dict[str, Any]) -> None:
    user = vector["user"].encode()
    hashed = murmur3(vector["salt"], user)
    assert hashed == vector["hash"]
    assert bucket_of(hashed) == vector["bucket"]
    for percentage, expected in vector["finetuned_at"].items():
        agent = agent_of(float(percentage), vector["agent"], FINETUNES[vector["agent"]])
        assert agent.salt == vector["salt"]
        decision = assign(agent, user)
        assert (decision.variant is Variant.FINETUNED) == expected, percentage
        assert decision.assignment.value == decision.variant.value
        assert decision.bucket == vector["bucket"]


# --- the laws ---------------------------------------------------------------------------------------


@given(users, salts)
def test_bucket_follows_the_formula(user: bytes, salt: str) -> None:
    hashed = mmh3.hash(f"{salt}:".encode() + user, 0, False)
    assert murmur3(salt, user) == hashed
    assert 0 <= bucket_of(hashed) == hashed * 10_000 // 2**32 < BUCKETS


@given(users, salts, percentages)
def test_salt_user_and_percentage_alone_decide(user: bytes, salt: str, percentage: float) -> None:
    extra = f", salt: {json.dumps(salt, ensure_ascii=False)}"
    one = agent_of(percentage, "qa_agent", "ft:first", extra)
    other = agent_of(percentage, "legal_agent", "ft:second", extra)
    decision = assign(one, user)
    assert decision == assign(other, bytes(bytearray(user)))  # another object of the same bytes
    assert decision.bucket == bucket_of(murmur3(salt, user))
    assert (decision.variant is Variant.FINETUNED) == (decision.bucket < round(percentage * 100))


@given(users, percentages, percentages)
def test_raising_the_percentage_only_adds_users(user: bytes, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert not (finetuned(agent_of(low), user) and not finetuned(agent_of(high), user))


@given(users)
def test_user_enters_at_the_step_after_the_bucket_and_at_no_other(user: bytes) -> None:
    bucket = assign(agent_of(0), user).bucket
    assert not finetuned(agent_of(bucket / 100), user)
    assert finetuned(agent_of((bucket + 1) / 100), user)


@pytest.mark.parametrize(("percentage", "expected"), [(0, 0), (100, 10_000)])
@pytest.mark.parametrize("compat", ["", UNLEASH])
def test_ends_are_exact(percentage: int, expected: int, compat: str) -> None:
    agent = agent_of(percentage, extra=compat)
    assert sum(finetuned(agent, user) for user in CROWD[:10_000]) == expected


@given(users)
def test_user_is_hashed_exactly_as_received(user: bytes) -> None:
    salt = agent_of().salt
    others = {user + b" ", b" " + user, user.swapcase()} - {user}
    assert murmur3(salt, user) not in {murmur3(salt, other) for other in others}


@pytest.mark.parametrize("agent", FINETUNES)
def test_hundred_thousand_users_spread_evenly_over_the_buckets(agent: str) -> None:
    salt = f"{agent}/{FINETUNES[agent]}"
    counts = Counter(bucket_of(murmur3(salt, user)) for user in CROWD)
    expected = len(CROWD) / BUCKETS
    chi_square = sum((counts[bucket] - expected) ** 2 / expected for bucket in range(BUCKETS))
    # 9999 degrees of freedom: mean 9999, deviation √(2·9999) ≈ 141.  Too even is as suspicious as uneven.
    assert abs(chi_square - 9999) < 4 * 141.4


@pytest.mark.parametrize(("one", "other"), list(combinations(FINETUNES, 2)))
def test_being_finetuned_on_one_agent_says_nothing_about_another(one: str, other: str) -> None:
    assert_independent(agent_of(10, one, FINETUNES[one]), agent_of(10, other, FINETUNES[other]))


def test_new_finetune_is_a_new_draw() -> None:
    assert_independent(agent_of(10, model="ft:first"), agent_of(10, model="ft:second"))


def test_pinned_salt_keeps_the_cohort_of_the_finetune_before() -> None:
    first = agent_of(10, model="ft:first", extra=", salt: kept")
    second = agent_of(10, model="ft:second", extra=", salt: kept")
    assert [assign(first, user) for user in CROWD[:1000]] == [assign(second, user) for user in CROWD[:1000]]


def assert_independent(one: AgentPolicy, other: AgentPolicy) -> None:
    """At 10 % each, 1 % are in both (1000 of the crowd, deviation 31), and 81 % in neither."""
    counts = Counter((finetuned(one, user), finetuned(other, user)) for user in CROWD)
    assert abs(counts[True, True] - 1000) < 150
    assert abs(counts[True, False] - 9000) < 450
    assert abs(counts[False, True] - 9000) < 450


# --- without a user, without an experiment ----------------------------------------------------------


@pytest.mark.parametrize("user", [None, b"", b" ", b"\t \r\n"])
@pytest.mark.parametrize("percentage", [0, 10, 100])
def test_missing_or_blank_user_is_never_hashed(user: bytes | None, percentage: int) -> None:
    decision = assign(agent_of(percentage), user)
    assert decision is UNASSIGNED
    assert decision == Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1)


def test_without_an_experiment_everybody_is_finetuned_a_user_or_not() -> None:
    agent = agent_of(10, switches="ab_testing: {enabled: false}")
    assert finetuned(agent, b"user-1")
    assert assign(agent, None) == Decision(Variant.FINETUNED, Assignment.FINETUNED, -1)


def test_with_finetunes_off_everybody_is_on_the_baseline() -> None:
    agent = agent_of(100, switches="models: {use_finetuned: false}")
    assert not any(finetuned(agent, user) for user in CROWD[:1000])
    assert assign(agent, None) is UNASSIGNED


# --- compat: unleash --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "user", "normalized"),
    [("gr1", b"123", 73), ("groupX", b"999", 25)],  # from Unleash's client specification
)
def test_unleash_cohort_begins_at_its_normalized_value(group: str, user: bytes, normalized: int) -> None:
    extra = f", salt: {group}, compat: unleash"
    assert not finetuned(agent_of(normalized - 1, extra=extra), user)
    assert finetuned(agent_of(normalized, extra=extra), user)


@given(users, st.integers(0, 100), st.integers(0, 100))
def test_unleash_cohorts_are_nested(user: bytes, one: int, other: int) -> None:
    low, high = sorted((one, other))
    before, after = (agent_of(percentage, extra=UNLEASH) for percentage in (low, high))
    assert not (finetuned(before, user) and not finetuned(after, user))


# --- the override -----------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", Variant)
def test_override_forces_a_variant_and_stays_out_of_comparisons(variant: Variant) -> None:
    expected = Decision(variant, Assignment.OVERRIDE, -1)
    assert override(variant.encode()) == expected
    assert override(b" " + variant.upper().encode() + b" ") == expected


@pytest.mark.parametrize("requested", [b"", b"canary", b"finetuned,baseline", b"\xff"])
def test_unknown_override_is_no_decision(requested: bytes) -> None:
    assert override(requested) is None


# --- the explanation --------------------------------------------------------------------------------


@given(users, percentages, st.sampled_from(["", UNLEASH]))
def test_explanation_is_the_decision_and_where_the_user_enters(user: bytes, percentage: float, extra: str) -> None:
    agent = agent_of(round(percentage) if extra else percentage, extra=extra)
    found = explain(agent, user)
    if found is None:
        assert not user.strip()
        return
    assert found.hash == murmur3(agent.salt, user)
    assert (found.variant, found.bucket) == (assign(agent, user).variant, assign(agent, user).bucket)
    assert finetuned(agent_of(found.enters_at, extra=extra), user)
    below = found.enters_at - (1 if extra else 0.01)
    assert not finetuned(agent_of(round(below, 2), extra=extra), user)


@pytest.mark.parametrize("vector", VECTORS["assignments"], ids=lambda vector: f"{vector['agent']}-{vector['user']}")
def test_explanation_has_the_vectors_numbers(vector: dict[str, Any]) -> None:
    agent = agent_of(10, vector["agent"], FINETUNES[vector["agent"]])
    explained = explain(agent, vector["user"].encode())
    assert explained is not None
    assert (explained.hash, explained.bucket) == (vector["hash"], vector["bucket"])
    assert explained.enters_at == (vector["bucket"] + 1) / 100


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ("ab_testing: {enabled: false}", Variant.FINETUNED),
        ("models: {use_finetuned: false}", Variant.BASELINE),
    ],
)
def test_explanation_follows_the_switches(switches: str, expected: Variant) -> None:
    explained = explain(agent_of(10, switches=switches), b"user-1")
    assert explained is not None
    assert explained.variant is expected


def test_blank_user_has_no_explanation() -> None:
    assert explain(agent_of(), b" ") is None


# --- the draw of a shadow -----------------------------------------------------------------------------


def _copied(percentage: float, ids: list[str], salt: str = "s") -> set[str]:
    prices = f'prices: {{"{FINETUNES["qa_agent"]}": {{input: 1, output: 1}}}}'
    shadow = f", shadow: {{percentage: {percentage}, salt: {salt}}}"
    found = agent_of(extra=shadow, switches=prices).shadow
    assert found is not None
    return {each for each in ids if is_copied(found, each)}


def test_shadow_draws_its_share_of_the_requests_and_more_with_a_higher_one() -> None:
    ids = [Ids().new(1_700_000_000 + number / 10) for number in range(20_000)]
    small, large = _copied(5, ids), _copied(20, ids)
    assert small < large
    assert abs(len(small) - 1000) < 5 * 31  # five standard deviations
    assert abs(len(large) - 4000) < 5 * 57
    assert _copied(100, ids) == set(ids)


def test_another_salt_draws_independently() -> None:
    ids = [Ids().new(1_700_000_000 + number / 10) for number in range(20_000)]
    assert abs(len(_copied(20, ids) & _copied(20, ids, "t")) - 800) < 5 * 28

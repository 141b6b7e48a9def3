"""A diff tells the truth about every user: against all buckets, and against real hashed users."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.diff import PolicyDiff, diff_policies
from proxy.policy.moves import Flow
from proxy.policy.snapshot import AgentPolicy, Policy
from proxy.split.assign import BUCKETS, assign
from proxy.words import Variant
from tests.policy.samples import compiled

SECRET = "sk-canary-4711"
CROWD = [b"user-%d" % number for number in range(20_000)]


def policy(
    percentage: float = 10,
    *,
    agent: str = "qa_agent",
    model: str = "ft:one",
    salt: str | None = None,
    compat: str = "native",
    top: str = "",
    upstream: str = "",
    prices: str = "{}",
) -> Policy:
    extra = f", salt: {salt}" if salt else ""
    return compiled(f"""
upstreams: {{mistral: {{base_url: "https://api.mistral.ai", dialect: mistral{upstream}}}}}
agents:
  {agent}: {{fine_tuned: "{model}", fallback: base, rollout_percentage: {percentage}, compat: {compat}{extra}}}
prices: {prices}
{top}
""")


def only(diff: PolicyDiff) -> dict[str, Any]:
    (agent,) = diff.as_json()["agents"].values()
    assert isinstance(agent, dict)
    return agent


def told(old: Policy, new: Policy) -> dict[tuple[Variant, Variant], float]:
    (agent,) = diff_policies(old, new).agents.values()
    return {(flow.before, flow.after): flow.share for flow in agent.flows}


def of(policy: Policy) -> AgentPolicy:
    return policy.agents[b"qa_agent"]


# --- the shares ---------------------------------------------------------------------------------------

sides = st.one_of(
    st.tuples(st.integers(0, BUCKETS).map(lambda step: step / 100), st.sampled_from(["a", "b"]), st.just("native")),
    st.tuples(st.integers(0, 100), st.sampled_from(["a", "b"]), st.just("unleash")),
)


def cohort(agent: AgentPolicy) -> list[bool]:
    """Whether each place of the draw is fine-tuned: 10,000 buckets, or Unleash's 100 groups 100 times each."""
    if agent.unleash:
        return [group <= agent.percentage for group in range(1, 101) for _ in range(100)]
    return [bucket < agent.threshold for bucket in range(BUCKETS)]


@given(sides, sides)
def test_shares_are_those_of_all_buckets(one: tuple[float, str, str], other: tuple[float, str, str]) -> None:
    old, new = (policy(percentage, salt=salt, compat=compat) for percentage, salt, compat in (one, other))
    before, after = cohort(of(old)), cohort(of(new))
    variants = {True: Variant.FINETUNED, False: Variant.BASELINE}
    expected = dict.fromkeys([(a, b) for a in Variant for b in Variant], 0.0)
    if one[1:] == other[1:]:
        for was, will_be in zip(before, after, strict=True):
            expected[variants[was], variants[will_be]] += 1 / BUCKETS
    else:  # each place of one draw meets each of the other equally often
        for was in (True, False):
            for will_be in (True, False):
                share = before.count(was) / BUCKETS * after.count(will_be) / BUCKETS
                expected[variants[was], variants[will_be]] += share
    assert told(old, new) == pytest.approx(expected, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_shares_are_those_of_real_users(one: tuple[float, str, str], other: tuple[float, str, str]) -> None:
    old, new = (policy(percentage, salt=salt, compat=compat) for percentage, salt, compat in (one, other))
    counts = dict.fromkeys([(a, b) for a in Variant for b in Variant], 0)
    for user in CROWD:
        counts[assign(of(old), user).variant, assign(of(new), user).variant] += 1
    for pair, share in told(old, new).items():
        # Five deviations of a count; at 0 and 1 there are none, and not one user may differ.
        assert abs(counts[pair] - share * len(CROWD)) <= 5 * (len(CROWD) * share * (1 - share)) ** 0.5 + 1e-4


@given(sides, sides)
def test_regresses_exactly_where_users_go_back_and_no_percentage_falls(
    one: tuple[float, str, str], other: tuple[float, str, str]
) -> None:
    old, new = (policy(percentage, salt=salt, compat=compat) for percentage, salt, compat in (one, other))
    back = told(old, new)[Variant.FINETUNED, Variant.BASELINE]
    assert diff_policies(old, new).regresses == (back > 0 and other[0] >= one[0])


@given(sides)
def test_policy_compared_with_itself_is_unchanged(side: tuple[float, str, str]) -> None:
    percentage, salt, compat = side
    same = policy(percentage, salt=salt, compat=compat)
    found = diff_policies(same, same)
    assert (only(found)["change"], found.settings, found.regresses) == ("unchanged", (), False)
    assert found.lines()[1:] == ["qa_agent: unchanged"]


# --- what is said of it -------------------------------------------------------------------------------


def lines(old: Policy, new: Policy) -> list[str]:
    return [line.strip() for line in diff_policies(old, new).lines()]


def test_raised_percentage_moves_the_difference_and_names_the_price() -> None:
    prices = '{base: {input: 0.25, output: 0.25}, "ft:*": {input: 0.75, output: 0.5}}'
    shown = lines(policy(10, prices=prices), policy(18.5, prices=prices))
    assert "rollout_percentage: 10 → 18.5" in shown
    assert (
        "8.5 % of users: baseline → fine-tuned (base → ft:one);"
        " $0.25 in, $0.25 out → $0.75 in, $0.5 out per million tokens, more expensive"
    ) in shown


def test_new_finetune_without_a_pinned_salt_reshuffles_and_says_how_not_to() -> None:
    old, new = policy(10, model="ft:one"), policy(10, model="ft:two")
    found = diff_policies(old, new)
    assert found.regresses
    assert only(found)["reshuffled"]
    shown = lines(old, new)
    assert "9 % of users: fine-tuned → baseline (ft:one → base)" in shown
    assert "9 % of users: baseline → fine-tuned (base → ft:two)" in shown
    assert "1 % of users: stay fine-tuned, another model (ft:one → ft:two)" in shown
    assert any('write `salt: "qa_agent/ft:one"`' in line for line in shown)
    assert shown[-1] == "users move back from fine-tuned although no percentage falls: qa_agent"


def test_new_finetune_with_a_pinned_salt_moves_nobody_and_changes_the_arms_model() -> None:
    old, new = (policy(10, model=model, salt="kept") for model in ("ft:one", "ft:two"))
    found = diff_policies(old, new)
    assert not found.regresses
    shown = lines(old, new)
    assert "no user moves" in shown
    assert "10 % of users: stay fine-tuned, another model (ft:one → ft:two)" in shown


def test_falling_percentage_is_no_regress() -> None:
    assert not diff_policies(policy(25), policy(10)).regresses


def test_new_salt_before_anybody_is_finetuned_reshuffles_nobody() -> None:
    found = diff_policies(policy(0, salt="a"), policy(10, salt="b"))
    agent = only(found)
    assert (agent["reshuffled"], agent["users"]["baseline_to_finetuned"], found.regresses) == (False, 0.1, False)


def test_end_of_everybody_takes_requests_without_a_user_along() -> None:
    off = "ab_testing: {enabled: false}"
    agent = only(diff_policies(policy(top=off), policy(10)))
    assert agent["users"]["finetuned_to_baseline"] == 0.9
    assert agent["without_user"] == {"old": "finetuned", "new": "baseline"}
    shown = lines(policy(top=off), policy(100))
    assert "no user moves" in shown
    assert "requests without a user: fine-tuned → baseline" in shown


@pytest.mark.parametrize(("asked", "fate"), [("random", "random"), ("reject", "rejected")])
def test_fate_of_requests_without_a_user_is_the_policys(asked: str, fate: str) -> None:
    agent = only(diff_policies(policy(), policy(top=f"identity: {{on_missing_user: {asked}}}")))
    assert agent["without_user"] == {"old": "baseline", "new": fate}


def test_added_agent_splits_what_passed_through() -> None:
    diff = diff_policies(
        policy(),
        compiled("""
upstreams: {mistral: {base_url: "https://api.mistral.ai", dialect: mistral}}
agents:
  qa_agent: {fine_tuned: "ft:one", fallback: base, rollout_percentage: 10}
  new_agent: {fine_tuned: "ft:new", fallback: base, rollout_percentage: 20}
"""),
    )
    changes = {name: agent.change for name, agent in diff.agents.items()}
    assert changes == {"qa_agent": "unchanged", "new_agent": "added"}
    assert any("20 % of its users are on ft:new (no price)" in line for line in diff.lines())
    assert not diff.regresses


@pytest.mark.parametrize(("percentage", "regresses"), [(10, True), (0, False)])
def test_removed_agent_takes_the_finetune_from_its_users(percentage: float, regresses: bool) -> None:
    old, new = policy(percentage), policy(agent="other_agent", model="ft:other")
    diff = diff_policies(old, new)
    assert {name: agent.change for name, agent in diff.agents.items()} == {
        "other_agent": "added",
        "qa_agent": "removed",
    }
    assert diff.as_json()["agents"]["qa_agent"]["leaving_finetuned"] == percentage / 100
    assert diff.regresses == regresses


def test_dearer_model_is_flagged_and_an_unknown_price_is_not() -> None:
    prices = [f'{{"ft:one": {{input: 1, output: 1, cached_input: {cached}}}}}' for cached in (0.5, 0.75)]
    shown = lines(policy(prices=prices[0]), policy(prices=prices[1]))
    assert "price of fine-tuned: $0.5 → $0.75 per million cached input tokens, more expensive" in shown
    (price,) = only(diff_policies(policy(), policy(prices=prices[0])))["prices"]
    assert (price["variant"], price["old"], price["costs_more"]) == ("finetuned", None, False)


# --- what holds for all agents ------------------------------------------------------------------------


def test_settings_of_all_agents_are_told_under_the_files_names() -> None:
    new = policy(
        upstream=", timeouts: {connect: 3s}",
        top="limits: {max_body: 1MiB}\nfallback: {on: {auth: true}, retry: {baseline: 2}}\nlisten: {data: ':9000'}",
    )
    found = diff_policies(policy(), new)
    assert {(change.key, change.old, change.new) for change in found.settings} == {
        ("upstreams.mistral.timeouts.connect", "2s", "3s"),
        ("limits.max_body", "32MiB", "1MiB"),
        ("fallback.on.auth", "false", "true"),
        ("fallback.retry.baseline", "1", "2"),
        ("listen.data", "127.0.0.1:8080", ":9000"),
    }
    assert only(found)["change"] == "unchanged"
    assert found.warnings == ("listen changes: takes a restart",)


@pytest.mark.parametrize(
    ("top", "key"),
    [
        ("identity: {user: [header:x-uid]}", "identity.user"),
        ("identity: {agent: [header:x-bot]}", "identity.agent"),
        (f"identity: {{keys: {{{'ab' * 32}: qa_agent}}, agent: [key]}}", "identity.keys"),
    ],
)
def test_other_identity_sources_are_warned_about(top: str, key: str) -> None:
    found = diff_policies(policy(), policy(top=top))
    assert any(warning.startswith(f"{key} changes: ") for warning in found.warnings)
    assert "ab" * 32 not in "\n".join([*found.lines(), json.dumps(found.as_json())])


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (SECRET, SECRET + "2", ("a secret", "another secret")),
        ("", SECRET, ("none", "a secret")),
        (SECRET, "", ("a secret", "none")),
    ],
)
def test_changed_key_is_told_without_being_shown(before: str, after: str, told: tuple[str, str]) -> None:
    old, new = (policy(upstream=f", api_key: {key}" if key else "") for key in (before, after))
    found = diff_policies(old, new)
    assert [tuple(change) for change in found.settings] == [("upstreams.mistral.api_key", *told)]
    shown = "\n".join([*found.lines(), json.dumps(found.as_json()), repr(found)])
    assert "canary" not in shown


def test_flow_of_nobody_moves_nobody() -> None:
    agent = of(policy())
    flow = Flow(Variant.BASELINE, Variant.FINETUNED, 0.0, agent.baseline, agent.finetuned)
    assert (flow.moves, flow.changes_model, flow.costs_more) == (False, False, False)


def test_shadow_is_told_among_the_agents_settings() -> None:
    def with_shadow(shadow: str) -> Policy:
        return compiled(f"""
upstreams: {{mistral: {{base_url: "https://api.mistral.ai", dialect: mistral}}}}
agents:
  qa_agent: {{fine_tuned: "ft:one", fallback: base{shadow}}}
prices: {{"ft:one": {{input: 1, output: 1}}}}
""")

    changes = only(diff_policies(with_shadow(""), with_shadow(", shadow: {percentage: 5, timeout: 90s}")))["settings"]
    assert {change["key"]: change["new"] for change in changes} == {
        "shadow.percentage": "5",
        "shadow.salt": "shadow/qa_agent/ft:one",
        "shadow.max_in_flight": "4",
        "shadow.daily_usd": "5",
        "shadow.timeout": "90s",
    }

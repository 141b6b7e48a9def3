# ruff: noqa: E501 – the block as the statistics write it

import pytest

from .samples import UPSTREAMS, parse, problem

# STATISTICS.md, key for key.
ROLLOUT = """\
rollout:
  ramp: [10, 25, 50, 100]            # shorthand, or steps:
  steps:
    - {percent: 10, soak: 24h, min: {users: 100, requests: 1000}}
    - {percent: 25, soak: 24h}
    - {percent: 50, soak: 48h, approval: true}
    - {percent: 100}
  gates:                             # guardrail may roll back; signal may only hold
    success:       {kind: guardrail, margin: -1pp}
    first_attempt: {kind: guardrail, margin: -2pp}
    fallback_rate: {kind: guardrail, max: 5%}
    latency_p95:   {kind: guardrail, margin: +2.5pp}
    latency_mean:  {kind: signal, margin: +10%}
    cost:          {kind: signal, margin: +0%}
    feedback:      {kind: signal, margin: -0.05, min: {rated: 100}, on_insufficient: ignore}
  brake: {enabled: true, floor: 2%, odds: 100000, per_minute: 3}
  health: {srm: {p: 0.001, action: hold}, no_traffic: {grace: 24h, action: hold}, missing_users: {max: 20%, action: warn}, stale: {max: 15m, action: hold}}
  on_fail: rollback                  # or pause
  on_inconclusive: {after: 14d, action: hold}
"""


def test_block_of_the_statistics_is_taken_as_written() -> None:
    rollout = parse(UPSTREAMS + ROLLOUT).rollout
    assert [(step.percent, step.soak, step.approval) for step in rollout.plan] == [
        (10, 86_400, False),
        (25, 86_400, False),
        (50, 172_800, True),
        (100, 86_400, False),
    ]
    assert rollout.gates.success is not None
    assert rollout.gates.success.margin == -0.01
    assert rollout.gates.latency_p95 is not None
    assert rollout.gates.latency_p95.margin == 0.025
    assert rollout.gates.feedback is not None
    assert rollout.gates.feedback.min.rated == 100
    assert rollout.on_inconclusive.after == 14 * 86_400


def test_defaults_are_those_the_statistics_write() -> None:
    written, bare = parse(UPSTREAMS + ROLLOUT).rollout, parse(UPSTREAMS).rollout
    assert bare.gates == written.gates
    assert bare.brake == written.brake
    assert bare.health == written.health
    assert (bare.on_fail, bare.on_inconclusive) == (written.on_fail, written.on_inconclusive)
    assert [step.percent for step in bare.plan] == [10, 25, 50, 100]


def test_ramp_is_steps_with_nothing_but_a_percentage() -> None:
    rollout = parse(f"{UPSTREAMS}rollout: {{ramp: [5, 100]}}\n").rollout
    assert [(step.percent, step.soak, step.min.users) for step in rollout.plan] == [
        (5, 86_400, 100),
        (100, 86_400, 100),
    ]


@pytest.mark.parametrize(
    "block",
    [
        "ramp: [10, 10]",
        "ramp: [25, 10]",
        "ramp: [10, 100, 100]",
        "steps: [{percent: 50}, {percent: 25}]",
    ],
)
def test_ramp_that_does_not_rise_is_refused(block: str) -> None:
    assert problem(f"{UPSTREAMS}rollout: {{{block}}}\n").expected == "percentages that rise with every step"


@pytest.mark.parametrize("ramp", ["[]", "[0, 10]"])
def test_ramp_without_a_first_step_is_refused(ramp: str) -> None:
    assert problem(f"{UPSTREAMS}rollout: {{ramp: {ramp}}}\n").expected == "at least one step, above 0"


def test_ramp_above_100_is_refused_at_its_step() -> None:
    found = problem(f"{UPSTREAMS}rollout: {{ramp: [10, 101]}}\n")
    assert (found.key, found.value) == ("rollout.ramp[1]", "101")


def test_ramp_and_steps_that_differ_are_refused() -> None:
    found = problem(f"{UPSTREAMS}rollout: {{ramp: [10, 100], steps: [{{percent: 20}}]}}\n")
    assert (found.key, found.expected) == (
        "rollout.steps",
        "the same percentages as `ramp`, or only one of the two",
    )


@pytest.mark.parametrize(
    ("gate", "key"),
    [
        ("success: {kind: guardrail, margin: 1pp}", "success.margin"),
        ("success: {kind: guardrail, margin: -1%}", "success.margin"),
        ("success: {kind: guardrail, margin: -0.01}", "success.margin"),
        ("latency_p95: {kind: guardrail, margin: -2pp}", "latency_p95.margin"),
        ("cost: {kind: signal, margin: 10}", "cost.margin"),
        ("cost: {kind: signal, margin: -10%}", "cost.margin"),
        ("fallback_rate: {kind: guardrail, max: 0.05}", "fallback_rate.max"),
        ("fallback_rate: {kind: guardrail, max: -5%}", "fallback_rate.max"),
        ("feedback: {kind: signal, margin: -1pp}", "feedback.margin"),
        ("feedback: {kind: signal, margin: 0.05}", "feedback.margin"),
        ("cost: {kind: watchdog, margin: +1%}", "cost.kind"),
        ("cost: {kind: signal}", "cost.margin"),
    ],
)
def test_gate_with_the_wrong_unit_sign_or_kind_is_refused(gate: str, key: str) -> None:
    assert problem(f"{UPSTREAMS}rollout: {{gates: {{{gate}}}}}\n").key == f"rollout.gates.{key}"


def test_gate_is_turned_off_by_null_and_the_others_stay() -> None:
    gates = parse(f"{UPSTREAMS}rollout: {{gates: {{cost: null}}}}\n").rollout.gates
    assert gates.cost is None
    assert gates.success is not None


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ("health: {srm: {p: 0}}", "health.srm.p"),
        ("health: {stale: {max: 15}}", "health.stale.max"),
        ("health: {missing_users: {max: 20}}", "health.missing_users.max"),
        ("health: {no_traffic: {action: panic}}", "health.no_traffic.action"),
        ("on_fail: retry", "on_fail"),
        ("on_inconclusive: {after: 14}", "on_inconclusive.after"),
        ("brake: {odds: 1}", "brake.odds"),
        ("steps: [{soak: 24h}]", "steps[0].percent"),
    ],
)
def test_wrong_value_is_reported_under_its_key(block: str, key: str) -> None:
    assert problem(f"{UPSTREAMS}rollout: {{{block}}}\n").key == f"rollout.{key}"

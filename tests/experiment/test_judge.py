"""Situations, and what the judge says to them."""

from typing import Any

import pytest

from proxy.experiment.evidence import BucketSums, Evidence, Exposed, Hold, Stage
from proxy.experiment.judge import judge
from proxy.experiment.verdict import Outcome, Verdict
from proxy.policy.config_rollout import RolloutConfig
from proxy.words import Brake
from tests.support.ramps import DAY, NOW, evidence

HOUR = 3600.0
BRAKE = Brake("0192", "support", NOW, "{}")
FAILED, PAUSED = Hold("failed", "success fell", NOW), Hold("paused", "a holiday", NOW)

OTHER_GATES = ("first_attempt", "fallback_rate", "latency_p95", "latency_mean", "cost", "feedback")


def users(
    percentage: float,
    number: int = 3000,
    failing: float = 0.02,
    harm: float = 0.0,
    requests: int = 10,
    *,
    lumps: bool = False,
) -> Stage:
    """Users of the same size.  Failures go to them in turn; with `lumps` a user fails always or never."""
    rows = []
    for user in range(number):
        bucket = user * 10_000 // number
        treated = bucket < percentage * 100
        rate = (failing + harm * treated) * (1 if lumps else requests)
        failures = (int((user + 1) * rate) - int(user * rate)) * (requests if lumps else 1)
        ok = requests - failures
        rows.append(BucketSums(bucket, treated, requests, ok, ok, 0, 0, 1.0, 0.01, 0, 0.0))
    return Stage(percentage, tuple(rows))


def rollout(gates: dict[str, Any] | None = None, **more: Any) -> RolloutConfig:
    return RolloutConfig.model_validate({"gates": {**dict.fromkeys(OTHER_GATES), **(gates or {})}, **more})


ROLLOUT = rollout()
GOOD = users(25.0, 4000)
BAD = users(25.0, 4000, harm=0.1)
UNSURE = users(25.0, 1200, 0.05, lumps=True)
FEW = users(25.0, 300)
ONE_SIDED = (Exposed(25.0, 1000, 1000),)


def told(verdict: Verdict) -> str:
    """`PASS → 50`, or the outcome with its reasons."""
    if verdict.outcome is Outcome.PASS:
        return f"PASS → {verdict.next_percentage:g}"
    return f"{verdict.outcome.upper()} {' '.join(map(str, verdict.because))}"


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (evidence(GOOD), "PASS → 50"),
        # What stops it at once.
        (evidence(GOOD, brake=BRAKE), "FAIL BRAKE"),
        (evidence(GOOD, brake=BRAKE, hold=PAUSED, newest=None), "FAIL BRAKE PAUSED"),
        (evidence(GOOD, hold=FAILED), "HOLD FAILED"),
        (evidence(GOOD, hold=PAUSED), "HOLD PAUSED"),
        (evidence(BAD, hold=PAUSED), "HOLD PAUSED GUARDRAIL_FAIL(success)"),
        # Numbers that cannot be trusted; they come before what the numbers say.
        (evidence(GOOD, newest_of_any=NOW - HOUR), "HOLD STALE"),
        (evidence(GOOD, newest=NOW - 2 * DAY), "HOLD NO_TRAFFIC"),
        (evidence(BAD, newest_of_any=NOW - HOUR), "HOLD STALE GUARDRAIL_FAIL(success)"),
        # Harm.
        (evidence(BAD), "FAIL GUARDRAIL_FAIL(success)"),
        (evidence(BAD, exposed=ONE_SIDED), "FAIL GUARDRAIL_FAIL(success) SRM"),
        (evidence(BAD, since=NOW - HOUR, users=(50, 50)), "FAIL GUARDRAIL_FAIL(success)"),
        # Who takes part.
        (evidence(GOOD, exposed=ONE_SIDED), "HOLD SRM"),
        (evidence(GOOD, missing_users=0.9), "PASS → 50"),
        # Not yet.
        (evidence(FEW), "HOLD INSUFFICIENT_USERS INSUFFICIENT_USERS(success)"),
        (evidence(GOOD, users=(99, 3000)), "HOLD INSUFFICIENT_USERS"),
        (evidence(users(25.0, 4000, failing=0.0)), "PASS → 50"),
        (evidence(GOOD, since=NOW - 23 * HOUR), "HOLD SOAK"),
        (evidence(GOOD, since=None), "HOLD SOAK"),
        (evidence(UNSURE), "HOLD INCONCLUSIVE(success)"),
        (evidence(UNSURE, since=NOW - HOUR), "HOLD SOAK INCONCLUSIVE(success)"),
        (evidence(UNSURE, exposed=ONE_SIDED), "HOLD SRM INCONCLUSIVE(success)"),
        # Nothing at all.
        (evidence(users=(0, 0), exposed=(), since=None, newest=None, newest_of_any=None),
         "HOLD NO_TRAFFIC INSUFFICIENT_USERS SOAK INSUFFICIENT_USERS(success)"),
        # Where the ramp is.
        (evidence(users(10.0, 8000)), "PASS → 25"),
        (evidence(users(12.0, 8000)), "PASS → 25"),
        (evidence(users(5.0, 8000)), "PASS → 10"),
        (evidence(users(50.0, 4000)), "PASS → 100"),
        (evidence(users(50.0, 4000), users(100.0, 4000)), "HOLD COMPLETE"),
        (evidence(users(50.0, 4000, harm=0.1), users(100.0, 4000)), "FAIL GUARDRAIL_FAIL(success)"),
        (evidence(users(100.0, 50)), "HOLD COMPLETE"),
        (evidence(Stage(0.0, ())), "HOLD NOT_STARTED"),
        (evidence(Stage(0.0, ()), hold=FAILED), "HOLD FAILED"),
        (evidence(BAD, Stage(0.0, ())), "HOLD NOT_STARTED"),
    ],
)  # fmt: skip
def test_situation_and_verdict(seen: Evidence, said: str) -> None:
    assert told(judge(seen, ROLLOUT)) == said


STEPS = [{"percent": 25, "soak": "48h", "min": {"users": 500, "requests": 50_000}}, {"percent": 50, "approval": True}]


@pytest.mark.parametrize(
    ("seen", "policy", "said"),
    [
        (evidence(GOOD), rollout(steps=STEPS), "HOLD INSUFFICIENT_USERS"),  # 40,000 requests
        (evidence(users(25.0, 6000)), rollout(steps=STEPS), "HOLD APPROVAL"),
        (evidence(users(25.0, 6000), since=NOW - 40 * HOUR), rollout(steps=STEPS), "HOLD SOAK"),
        (evidence(users(50.0, 6000)), rollout(steps=STEPS), "HOLD COMPLETE"),  # the last step is not everybody
        (evidence(users(50.0, 1200, 0.05, lumps=True)), rollout(steps=STEPS), "HOLD INCONCLUSIVE(success)"),
        (evidence(users(60.0, 6000)), rollout(steps=STEPS), "HOLD COMPLETE"),
        (evidence(GOOD, exposed=ONE_SIDED), rollout(health={"srm": {"action": "warn"}}), "PASS → 50"),
        (evidence(GOOD, missing_users=0.9), rollout(health={"missing_users": {"action": "hold"}}),
         "HOLD MISSING_USERS"),
        (evidence(GOOD, newest=None), rollout(health={"no_traffic": {"action": "warn"}}), "PASS → 50"),
        (evidence(GOOD), rollout({"feedback": {"kind": "signal", "margin": -0.05}}),
         "HOLD INSUFFICIENT_USERS(feedback)"),
        (evidence(GOOD),
         rollout({"feedback": {"kind": "signal", "margin": -0.05, "on_insufficient": "ignore"}}), "PASS → 50"),
        (evidence(UNSURE, since=NOW - 15 * DAY), rollout(), "HOLD INCONCLUSIVE(success)"),
        (evidence(UNSURE, since=NOW - 15 * DAY), rollout(on_inconclusive={"action": "rollback"}),
         "FAIL INCONCLUSIVE(success)"),
        (evidence(UNSURE, since=NOW - 13 * DAY), rollout(on_inconclusive={"action": "rollback"}),
         "HOLD INCONCLUSIVE(success)"),
        # Too little data, or numbers not to be trusted, is no reason to roll back however long it goes on.
        (evidence(FEW, since=NOW - 15 * DAY), rollout(on_inconclusive={"action": "rollback"}),
         "HOLD INSUFFICIENT_USERS INSUFFICIENT_USERS(success)"),
        (evidence(UNSURE, since=NOW - 15 * DAY, exposed=ONE_SIDED), rollout(on_inconclusive={"action": "rollback"}),
         "HOLD SRM INCONCLUSIVE(success)"),
        # Nor is a signal.
        (evidence(UNSURE, since=NOW - 15 * DAY),
         rollout({"success": {"kind": "signal", "margin": "-1pp"}}, on_inconclusive={"action": "rollback"}),
         "HOLD INCONCLUSIVE(success)"),
    ],
)  # fmt: skip
def test_policy_and_verdict(seen: Evidence, policy: RolloutConfig, said: str) -> None:
    assert told(judge(seen, policy)) == said


OBSERVED = Stage(0.0, users(0.0, 3000).buckets)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (evidence(OBSERVED, since=NOW - 10 * HOUR), "HOLD OBSERVING"),
        (evidence(OBSERVED, since=None, newest=None), "HOLD NO_TRAFFIC OBSERVING"),
        (evidence(OBSERVED, since=NOW - 25 * HOUR), "PASS → 10"),
        (evidence(OBSERVED, since=NOW - 25 * HOUR, newest_of_any=NOW - HOUR), "HOLD STALE"),
        (evidence(OBSERVED, since=NOW - 25 * HOUR, hold=PAUSED), "HOLD PAUSED"),
        (evidence(BAD, OBSERVED, since=NOW - 25 * HOUR), "HOLD NOT_STARTED"),
    ],
)
def test_observed_agent_starts_by_itself_once_it_was_watched_and_has_not_failed(seen: Evidence, said: str) -> None:
    assert told(judge(seen, ROLLOUT, observe=DAY)) == said


def test_first_step_that_needs_approval_waits_for_it_after_observing() -> None:
    policy = rollout(steps=[{"percent": 10, "approval": True}])
    assert told(judge(evidence(OBSERVED, since=NOW - 25 * HOUR), policy, observe=DAY)) == "HOLD APPROVAL"


def test_warnings_are_said_whatever_the_outcome() -> None:
    assert list(map(str, judge(evidence(GOOD, missing_users=0.9), ROLLOUT).warnings)) == ["MISSING_USERS"]
    assert list(map(str, judge(evidence(BAD, missing_users=0.9), ROLLOUT).warnings)) == ["MISSING_USERS"]


def test_eta_is_the_latest_of_the_reasons_and_unknown_where_one_is() -> None:
    soak = judge(evidence(GOOD, since=NOW - 20 * HOUR), ROLLOUT)
    assert soak.eta == 4 * HOUR
    both = judge(evidence(UNSURE, since=NOW - 20 * HOUR), ROLLOUT)
    assert both.eta == both.because[1].eta
    assert both.eta is not None
    assert both.eta > 4 * HOUR
    assert judge(evidence(GOOD, hold=PAUSED), ROLLOUT).eta is None
    assert judge(evidence(GOOD), ROLLOUT).eta == 0


def test_smallest_p_values_are_kept_for_the_next_look() -> None:
    first = judge(evidence(GOOD), ROLLOUT)
    assert set(first.p_values) == {"success", "srm"}
    assert first.srm_p == first.p_values["srm"] == 1
    before = {"srm": 1e-5, "success": 0.2, "cost": 0.3}
    second = judge(evidence(GOOD, p_values=before), ROLLOUT)
    assert told(second) == "HOLD SRM"
    assert second.p_values == before
    assert judge(evidence(BAD, p_values=before), ROLLOUT).p_values["success"] < 0.01


def test_too_few_users_leave_no_p_value() -> None:
    assert set(judge(evidence(FEW), ROLLOUT).p_values) == {"srm"}


def test_default_gates_pass_a_fine_tune_that_is_as_good_and_cheaper() -> None:
    stage = users(25.0, 4000)
    cheaper = [
        row._replace(
            cost=0.005 if row.treated else 0.01, slow=row.bucket // 4 % 2, fallbacks=row.bucket // 10 % 10 == 0
        )
        for row in stage.buckets
    ]
    verdict = judge(evidence(stage._replace(buckets=tuple(cheaper))), RolloutConfig())
    assert told(verdict) == "PASS → 50"
    assert [str(gate.because) for gate in verdict.gates if gate.because] == ["INSUFFICIENT_USERS(feedback)"]

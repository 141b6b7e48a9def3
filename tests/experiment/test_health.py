"""Stale, silent, badly split, nameless: each where the policy puts it."""

from typing import Any

import pytest

from proxy.experiment.evidence import Evidence
from proxy.experiment.health import Findings, freshness, population
from proxy.policy.config_rollout import HealthConfig
from tests.support.ramps import DAY, NOW, evidence

HEALTH = HealthConfig()


def found(seen: Evidence, health: HealthConfig = HEALTH, srm_p: float | None = 1.0) -> Findings:
    fresh, people = freshness(seen, health), population(seen, health, srm_p)
    return Findings([*fresh.reasons, *people.reasons], [*fresh.warnings, *people.warnings])


def told(findings: Findings) -> tuple[list[str], list[str]]:
    return [str(each) for each in findings.reasons], [str(each) for each in findings.warnings]


@pytest.mark.parametrize(
    ("changes", "reasons", "warnings"),
    [
        ({}, [], []),
        ({"newest_of_any": NOW - 899, "newest": NOW - 899}, [], []),
        ({"newest_of_any": NOW - 901, "newest": NOW - 901}, ["STALE"], []),
        ({"newest": NOW - DAY + 1}, [], []),  # others are called, this one is not, yet
        ({"newest": NOW - DAY - 1}, ["NO_TRAFFIC"], []),
        ({"newest": None}, ["NO_TRAFFIC"], []),
        ({"newest": None, "newest_of_any": None}, ["NO_TRAFFIC"], []),
        ({"newest": NOW - 2 * DAY, "newest_of_any": NOW - 2 * DAY}, ["STALE", "NO_TRAFFIC"], []),
        ({"missing_users": 0.2}, [], []),
        ({"missing_users": 0.21}, [], ["MISSING_USERS"]),
        ({"missing_users": None}, [], []),
    ],
)
def test_default_policy_holds_on_missing_data_and_warns_of_missing_users(
    changes: dict[str, Any], reasons: list[str], warnings: list[str]
) -> None:
    assert told(found(evidence(**changes))) == (reasons, warnings)


@pytest.mark.parametrize(("p", "reasons"), [(None, []), (1.0, []), (0.001, []), (0.00099, ["SRM"])])
def test_sample_ratio_alarms_below_its_threshold(p: float | None, reasons: list[str]) -> None:
    assert told(found(evidence(), srm_p=p)) == (reasons, [])


def test_what_the_policy_only_wants_said_is_a_warning_and_the_other_way_round() -> None:
    warn = {"action": "warn"}
    health = HealthConfig.model_validate(
        {"srm": warn, "no_traffic": warn, "stale": warn, "missing_users": {"action": "hold"}}
    )
    seen = evidence(newest=None, newest_of_any=NOW - DAY, missing_users=0.5)
    assert told(found(seen, health, 1e-9)) == (["MISSING_USERS"], ["STALE", "NO_TRAFFIC", "SRM"])


def test_details_have_the_numbers() -> None:
    seen = evidence(newest=NOW - 2 * DAY, newest_of_any=NOW - 1800, missing_users=0.5)
    assert [each.detail for each in (*found(seen, srm_p=2e-5).reasons, *found(seen).warnings)] == [
        "nothing of any agent for 30 min, allowed 15 min",
        "no request of the agent for 48.0 h, allowed 24.0 h",
        "people are not split as the policy says: p = 2e-05, alarm below 0.001",
        "50% of the requests name no user, allowed 20%",
    ]

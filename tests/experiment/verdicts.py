"""Verdicts and findings for the tests, written down: nothing is judged here."""

from typing import Any

from proxy.experiment.evidence import BucketSums, Evidence, Stage
from proxy.experiment.findings import Arm, Arms, Course, Finding, StageLine
from proxy.experiment.verdict import Because, GateVerdict, Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig

# 2026-11-25 09:00 UTC
NOW = 1_795_597_200.0
HOUR = 3600
DAY = 86400
SINCE = NOW - 3 * DAY

SUCCESS = GateVerdict(
    "success", "guardrail", Outcome.PASS, None, "points", 0.991, 0.9902, -0.0008, -0.0051, 0.0042, 0.01, (112, 980)
)
SLOW = GateVerdict(
    "latency_p95",
    "guardrail",
    Outcome.HOLD,
    Because(Reason.INCONCLUSIVE, "latency_p95", 2 * DAY, "between -1.30 pp and +3.10 pp, allowed +2.50 pp"),
    "points",
    0.058,
    0.049,
    0.009,
    -0.013,
    0.031,
    0.025,
    (112, 980),
)
COST = GateVerdict(
    "cost", "signal", Outcome.PASS, None, "relative", 0.00021, 0.00029, -0.28, -0.32, -0.23, 0.0, (112, 980)
)
WORSE = GateVerdict(
    "success",
    "guardrail",
    Outcome.FAIL,
    Because(
        Reason.GUARDRAIL_FAIL, "success", None, "worse by +2.31 pp, certainly by more than +0.40 pp, allowed +1.00 pp"
    ),
    "points",
    0.967,
    0.9901,
    0.0231,
    0.004,
    0.042,
    0.01,
    (112, 980),
)


def verdict(*because: Because, outcome: Outcome | None = None, **changes: Any) -> Verdict:
    """At 10 %, on the way to 25 %; holds where there is a reason."""
    fields: dict[str, Any] = {
        "agent": "qa_agent",
        "percentage": 10.0,
        "next_percentage": 25.0,
        "outcome": outcome or (Outcome.HOLD if because else Outcome.PASS),
        "because": because,
        "warnings": (),
        "gates": (SUCCESS, COST),
        "srm_p": 0.43,
        "eta": max((each.eta for each in because if each.eta is not None), default=None),
        "p_values": {},
    }
    return Verdict(**{**fields, **changes})


def evidence(**changes: Any) -> Evidence:
    """Three days at 10 %."""
    stages = tuple(
        Stage(percentage, (
            BucketSums(5, True, treated, treated - 1, treated - 4, 3, 6, 90.0, 0.02, 0, 0.0),
            BucketSums(5000, False, control, control - 9, control - 11, 0, 40, 900.0, 0.3, 0, 0.0),
        ))
        for percentage, treated, control in ((5.0, 120, 2280), (10.0, 600, 5400))
    )  # fmt: skip
    fields: dict[str, Any] = {
        "agent": "qa_agent",
        "salt": "qa_agent/ft:m",
        "percentage": 10.0,
        "now": NOW,
        "stages": stages,
        "exposed": (),
        "users": (112, 980),
        "since": SINCE,
        "newest": NOW - 40,
        "newest_of_any": NOW - 2,
        "missing_users": 0.012,
        "thresholds": None,
        "brake": None,
        "hold": None,
        "p_values": {},
    }
    return Evidence(**{**fields, **changes})


def course(hours: int = 96, until: float = NOW) -> tuple[Course, ...]:
    """Each hour ten requests of a tenth of the users, one of which is rescued every second hour, and ninety others."""
    last = int(until // HOUR)
    return tuple(
        Course(hour, Arm(10, 10, 0.002), Arm(90, 90 - hour % 2, 0.026), 10 - hour % 2, hour % 2)
        for hour in range(last - hours, last)
    )


def finding(said: Verdict, **changes: Any) -> Finding:
    """A finding with that verdict."""
    stages = (
        StageLine(5.0, SINCE - DAY, SINCE, (40, 760), Arms(Arm(120, 119), Arm(2280, 2271))),
        StageLine(10.0, SINCE, NOW - 40, (112, 980), Arms(Arm(600, 599), Arm(5400, 5391))),
    )
    fields: dict[str, Any] = {
        "evidence": evidence(agent=said.agent, percentage=said.percentage),
        "verdict": said,
        "rollout": RolloutConfig(),
        "stages": stages,
        "course": course(),
    }
    return Finding(**{**fields, **changes})

"""What a verdict leads to.  Pure.

- A pass moves to the next step; what fails is rolled back or stays, as `rollout.on_fail` says, and is
  latched; everything else waits.
- A latched failure above 0 % is rolled back again: the policy was put back, or the last rollback was cut
  off.  Only a person clears it.
- A paused agent is left alone in both directions; its brake, in the proxy, is not.
- A person may start a ramp and agree to a step by asking for it: no gate stands for either.
"""

from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from proxy.experiment.evidence import Evidence
from proxy.experiment.verdict import Because, Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig

PAUSED, FAILED = "paused", "failed"  # kinds of `Hold`

# What asking for a step answers.
_ASKED = frozenset({Reason.NOT_STARTED, Reason.APPROVAL})
# Why there is something to undo.
_FAILURES = frozenset({Reason.BRAKE, Reason.FAILED, Reason.GUARDRAIL_FAIL})


class Action(StrEnum):
    """What was decided, as the history tells it."""

    ADVANCE = "advance"  # to the next step, on evidence or by a person who asked for it
    SET = "set"  # to a percentage that a person named
    ROLLBACK = "rollback"  # to 0 %
    HOLD = "hold"  # nothing moves, for other reasons than before
    FAIL = "fail"  # latched where it stands: `on_fail: pause`
    PAUSE = "pause"
    RESUME = "resume"
    CLEAR = "clear"
    NOT_DONE = "not_done"  # the decision before it could not be carried out


MOVES = (Action.ADVANCE, Action.SET, Action.ROLLBACK)


class Plan(NamedTuple):
    """What is to be done for one agent."""

    action: Action
    target: float | None  # the percentage to set; None: it stays
    because: tuple[Because, ...]
    hold: str | None = None  # the kind to put; empty: lift what there is; None: leave it
    reason: str = ""  # a person's, in their words


def plan_of(verdict: Verdict, evidence: Evidence, rollout: RolloutConfig) -> Plan:
    """What the controller does by itself."""
    because = reasons_of(verdict, evidence)
    waiting = Plan(Action.HOLD, None, because)
    if evidence.hold is not None and evidence.hold.kind == PAUSED:
        return waiting
    if verdict.outcome is Outcome.FAIL or is_failing(because):
        return _failing(because, evidence, rollout)
    if verdict.outcome is Outcome.PASS and verdict.next_percentage is not None:
        return Plan(Action.ADVANCE, verdict.next_percentage, ())
    return waiting


def _failing(because: tuple[Because, ...], evidence: Evidence, rollout: RolloutConfig) -> Plan:
    latch = FAILED if evidence.hold is None else None
    # A stage that was inconclusive for too long fails only where the policy wants it rolled back.
    undo = rollout.on_fail == "rollback" or not is_failing(because)
    if evidence.percentage > 0 and undo:
        return Plan(Action.ROLLBACK, 0.0, because, latch)
    return Plan(Action.FAIL if latch else Action.HOLD, None, because, latch)


def reasons_of(verdict: Verdict, evidence: Evidence) -> tuple[Because, ...]:
    """The verdict's reasons; what holds the agent is always among them."""
    if evidence.hold is None:
        return verdict.because
    reason = Reason.PAUSED if evidence.hold.kind == PAUSED else Reason.FAILED
    if any(each.reason is reason for each in verdict.because):
        return verdict.because
    return (Because(reason, detail=evidence.hold.reason), *verdict.because)


def wish_of(verdict: Verdict, evidence: Evidence, target: float, force: str) -> Plan:
    """What a person's wish for a percentage comes to; `force` overrides what stands against it.

    What is forced up on a failing agent is left alone by the controller afterwards: it would undo it.
    """
    up = target > evidence.percentage
    against = objections(verdict, evidence) if up else ()
    hold = PAUSED if force and is_failing(against) else None
    action = Action.ADVANCE if up and target == verdict.next_percentage else Action.SET
    return Plan(action, target, against, hold, f"forced: {force}" if force and against else force)


def objections(verdict: Verdict, evidence: Evidence) -> tuple[Because, ...]:
    """What stands against a person's wish for a higher percentage; empty: nothing."""
    return tuple(each for each in reasons_of(verdict, evidence) if each.reason not in _ASKED)


def is_failing(because: tuple[Because, ...]) -> bool:
    """Whether the controller would undo it."""
    return any(each.reason in _FAILURES for each in because)


def since_the_last_move(evidence: Evidence, moved: float | None) -> Evidence:
    """The evidence with its stage beginning no earlier than `moved`, when its percentage was last decided.

    A percentage that is gone back to has an old first request; its soak time begins anew.
    """
    if evidence.since is None or moved is None or moved <= evidence.since:
        return evidence
    return replace(evidence, since=moved)

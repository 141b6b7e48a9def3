"""A verdict as one sentence that a manager can act on.  Pure."""

from enum import StrEnum
from math import ceil
from typing import NamedTuple

from proxy.experiment.verdict import Because, Outcome, Reason, Verdict


class Action(StrEnum):
    """What is recommended, or what is the case."""

    PROCEED = "proceed"
    APPROVE = "approve"  # all is well, and a person must agree
    COMPLETE = "complete"
    HOLD = "hold"
    OBSERVE = "observe"  # nobody is exposed yet
    START = "start"  # nobody is exposed, and nothing says when to begin
    ROLL_BACK = "roll_back"
    PAUSE = "pause"  # a guardrail failed, and the policy asks for no more
    STOPPED = "stopped"  # one failed earlier, and nobody has cleared it
    PAUSED = "paused"
    BRAKE = "brake"


class Advice(NamedTuple):
    """The recommendation."""

    action: Action
    sentence: str


# The reasons that stand for a state of their own, whatever else is known.
_STATES = {
    Reason.BRAKE: Action.BRAKE,
    Reason.FAILED: Action.STOPPED,
    Reason.PAUSED: Action.PAUSED,
    Reason.NOT_STARTED: Action.START,
    Reason.OBSERVING: Action.OBSERVE,
    Reason.APPROVAL: Action.APPROVE,
    Reason.COMPLETE: Action.COMPLETE,
}
_LEADS = {
    Action.BRAKE: "Brake: the fine-tune serves nobody until a person clears it",
    Action.STOPPED: "Stopped: a guardrail failed, and nothing moves until a person clears it",
    Action.PAUSED: "Paused: nothing moves until a person resumes it",
    Action.START: "Start when you are ready: nobody is on the fine-tune",
    Action.OBSERVE: "Observe: nobody is exposed yet",
    Action.COMPLETE: "Complete: there is no further stage",
    Action.ROLL_BACK: "Roll back",
    Action.PAUSE: "Pause",
}
# What is said of a reason: without its numbers, and with them.
_WORDS = {
    Reason.STALE: ("the newest data is too old", "{}"),
    Reason.NO_TRAFFIC: ("nobody calls the agent", "there was {}"),
    Reason.SRM: ("the arms do not have the sizes that the split gives them", "{}"),
    Reason.MISSING_USERS: ("too many requests name no user", "{}"),
    Reason.INSUFFICIENT_USERS: ("{what} has seen too little", "{what} has seen {}"),
    Reason.INCONCLUSIVE: ("{what} may still be worse than allowed", "{what} may still be worse than allowed ({})"),
    Reason.SOAK: ("the stage has not lasted long enough", "the stage has lasted {}"),
    Reason.GUARDRAIL_FAIL: ("{what} is certainly worse, and by more than allowed", "{what} is {}"),
}
# Whose wait is reckoned from the users who come.
_BY_TRAFFIC = frozenset({Reason.INSUFFICIENT_USERS, Reason.INCONCLUSIVE})
# Their lead has said it all.
_SAID = frozenset({Action.BRAKE, Action.COMPLETE})


def advice_of(verdict: Verdict, on_fail: str = "rollback") -> Advice:
    """The recommendation; `on_fail` is the policy's word: rollback | pause."""
    if not verdict.because:
        return _passed(verdict)
    first = verdict.because[0]
    action = _STATES.get(first.reason)
    if action is Action.APPROVE:
        lead = f"Approve {_percentage(verdict.next_percentage)}: {_gates(verdict)}, and a person must agree"
        return Advice(action, f"{lead}.")
    if action is None and verdict.outcome is Outcome.FAIL:
        action = Action.ROLL_BACK if on_fail == "rollback" else Action.PAUSE
        return Advice(action, f"{_LEADS[action]}: {said(first)}.")
    if action is None:
        return Advice(Action.HOLD, _hold(verdict))
    wait = "" if action is not Action.OBSERVE or first.eta is None else f", {in_words(first.eta)} more"
    detail = f" ({_end(first.detail)})" if first.detail and action not in _SAID else ""
    return Advice(action, f"{_LEADS[action]}{wait}{detail}.")


def said(because: Because, *, briefly: bool = False) -> str:
    """The reason in plain words, without a full stop; `briefly`: without an interval that the table has."""
    detail = _end(because.detail)
    without, filled = _WORDS.get(because.reason, (str(because.reason), "{}"))
    if because.reason is Reason.INCONCLUSIVE:
        if detail.startswith("worse by"):  # a signal, which is sure and may not fail
            filled = "{what} is {}"
        elif briefly:
            detail = ""
    if because.reason is Reason.INSUFFICIENT_USERS and not detail[:1].isdigit():
        filled = "{what} cannot be read: {}"
    return (filled if detail else without).format(detail, what=because.metric or "the stage")


def in_words(seconds: float) -> str:
    """A time to wait, rounded up: `2 days`, `5 hours`, `1 minute`."""
    for unit, size, least in (("day", 86400, 1.5 * 86400), ("hour", 3600, 1.5 * 3600), ("minute", 60, 0.0)):
        if seconds >= least:
            number = max(1, ceil(seconds / size - 1e-9))
            return f"{number:,} {unit}{'s' if number != 1 else ''}"
    return "no time"


def _passed(verdict: Verdict) -> Advice:
    if verdict.next_percentage is None:
        return Advice(Action.COMPLETE, f"{_LEADS[Action.COMPLETE]}, and {_gates(verdict)}.")
    return Advice(Action.PROCEED, f"Proceed to {_percentage(verdict.next_percentage)}: {_gates(verdict)}.")


def _hold(verdict: Verdict) -> str:
    """The reason that lasts longest, and how long."""
    reasons = verdict.because
    if verdict.eta is None:
        longest = next((each for each in reasons if each.eta is None), reasons[0])
        lead = f"Hold, because {said(longest, briefly=True)}"
    else:
        longest = max(reasons, key=lambda each: each.eta or 0.0)
        pace = " at today's traffic" if longest.reason in _BY_TRAFFIC else ""
        lead = f"Hold: {in_words(verdict.eta)} more{pace}, because {said(longest, briefly=True)}"
    more = len(reasons) - 1
    return f"{lead}{f'; and {more} more reason' + 's' * (more > 1) if more else ''}."


def _gates(verdict: Verdict) -> str:
    number = len(verdict.gates)
    unread = [gate.gate for gate in verdict.gates if gate.because is not None]
    passed = f"all {number} gates pass" if number > 1 else "its one gate passes" if number else "no gate is set"
    return f"{passed} ({', '.join(unread)} for want of data)" if unread else passed


def _percentage(value: float | None) -> str:
    return "the next stage" if value is None else f"{value:g} %"


def _end(text: str) -> str:
    return text.strip().rstrip(".")

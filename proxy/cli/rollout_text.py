"""What `splitlane rollout` says, in words and in JSON values."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from proxy.experiment.actions import Action, reasons_of
from proxy.experiment.controller import Done, Look, Step
from proxy.experiment.memory import Decision
from proxy.experiment.numbers import numbers_of, reasons_json
from proxy.experiment.verdict import Because, Outcome, Reason, Verdict
from proxy.ledger.page import visible

_COLOURS = {Outcome.PASS: "32", Outcome.HOLD: "33", Outcome.FAIL: "31"}
# Whose ETA is a guess from how many users come.
_BY_TRAFFIC = frozenset({Reason.INSUFFICIENT_USERS, Reason.INCONCLUSIVE})
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))
_VERBS = {
    Action.HOLD: "stays",
    Action.FAIL: "has failed, and stays",
    Action.NOT_DONE: "cannot be moved, and stays",
    Action.PAUSE: "is paused, and stays",
    Action.RESUME: "is resumed",
    Action.CLEAR: "is cleared",
}


def span(seconds: float) -> str:
    """A duration by its two largest units: `2 d 4 h`."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, parts[:2])) or f"{left} s"


def eta_of(because: Because) -> str:
    """When a reason may be gone, in words."""
    if because.eta is None:
        return ""
    return f"{span(because.eta)} at today's traffic" if because.reason in _BY_TRAFFIC else f"in {span(because.eta)}"


def reason_line(because: Because) -> str:
    """`INCONCLUSIVE(success), 2 d 4 h at today's traffic: …`."""
    head = ", ".join(filter(None, (str(because), eta_of(because))))
    return f"{head}: {because.detail}" if because.detail else head


def moment(time: float) -> str:
    """A time as people read it."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M UTC}"


# --- what was done ------------------------------------------------------------------------------------


def step_lines(step: Step) -> Iterator[str]:
    """One agent: where it goes or that it stays, and why."""
    look, plan = step
    name, here = look.agent, f"{look.evidence.percentage:g} %"
    if step.moves:
        passed = "all gates pass" if look.verdict.outcome is Outcome.PASS and plan.action is Action.ADVANCE else ""
        why = ", ".join([*map(str, plan.because), *filter(None, (plan.reason or passed,))])
        yield f"{name}: {here} → {step.target:g} % ({plan.action})" + (f": {why}" if why else "")
    else:
        yield f"{name}: {_VERBS.get(plan.action, 'stays')} at {here}" + (f": {plan.reason}" if plan.reason else "")
        yield from (f"  {reason_line(each)}" for each in plan.because)
    yield from (f"  warning: {reason_line(each)}" for each in look.verdict.warnings)


def done_json(done: Done) -> dict[str, Any]:
    """What was done, in plain JSON values."""
    files = () if done.edited is None else done.edited.files
    return {
        "written": done.written,
        "files": [{"file": str(each.path), "diff": each.unified()} for each in files],
        "agents": [step_json(step) for step in done.steps],
    }


def step_json(step: Step) -> dict[str, Any]:
    """One agent's step."""
    look, plan = step
    return {
        "agent": look.agent,
        "action": str(plan.action),
        "from": look.evidence.percentage,
        "to": step.target,
        "outcome": str(look.verdict.outcome),
        "reasons": reasons_json(plan.because),
        "reason": plan.reason,
        "warnings": reasons_json(look.verdict.warnings),
        "eta": look.verdict.eta,
    }


def patch_of(done: Done, key: str | None) -> dict[str, Any]:
    """The JSON merge patch of a ConfigMap that brings the change; empty where nothing changes.

    `key`: the policy's in the ConfigMap; None: the file's name.
    """
    if done.edited is None or not done.edited.files:
        return {}
    (edit,) = done.edited.files  # percentages are written in the policy file itself
    return {"data": {key or edit.path.name: edit.after.decode()}}


# --- status -------------------------------------------------------------------------------------------


def status_lines(looks: Sequence[Look], now: float) -> Iterator[str]:
    """Every agent: where it is, its verdict, what holds it, what was decided last."""
    width = max((len(look.agent) for look in looks), default=0)
    for look in looks:
        evidence, verdict = look.evidence, look.verdict
        yield f"{look.agent:<{width}}  {evidence.percentage:g} %  {_outcome(verdict)}{_way_on(verdict)}"
        if evidence.since is not None:
            users = f"{evidence.users[0]:,} users fine-tuned, {evidence.users[1]:,} on the baseline"
            yield f"  stage since {moment(evidence.since)} ({span(now - evidence.since)}), {users}"
        yield from (f"  {reason_line(each)}" for each in reasons_of(verdict, evidence))
        yield from (f"  warning: {reason_line(each)}" for each in verdict.warnings)
        if evidence.brake is not None:
            yield f"  brake: tripped {moment(evidence.brake.time)}; serves 0 % until `splitlane rollout clear`"
        if evidence.hold is not None:
            yield f"  hold: {evidence.hold.kind} since {moment(evidence.hold.time)}: {visible(evidence.hold.reason)}"
        yield f"  last decision: {decision_line(look.last) if look.last else 'none'}"


def status_json(look: Look, policy_hash: str) -> dict[str, Any]:
    """One agent's status with all its numbers."""
    return {
        "agent": look.agent,
        **numbers_of(look.evidence, look.verdict, policy_hash),
        "last_decision": look.last and decision_json(look.last, numbers=False),
    }


def _outcome(verdict: Verdict) -> str:
    word = str(verdict.outcome).upper()
    return f"\x1b[{_COLOURS[verdict.outcome]}m{word}\x1b[0m" if sys.stdout.isatty() else word


def _way_on(verdict: Verdict) -> str:
    if verdict.next_percentage is None or verdict.outcome is Outcome.FAIL:
        return ""
    when = "now" if verdict.outcome is Outcome.PASS else "" if verdict.eta is None else f"in {span(verdict.eta)}"
    return f", next {verdict.next_percentage:g} %" + (f" {when}" if when else "")


# --- history ------------------------------------------------------------------------------------------


def decision_line(decision: Decision) -> str:
    """One line of history, without the agent's name."""
    to = "" if decision.target is None else f" → {decision.target:g} %"
    why = f": {', '.join(decision.reasons)}" if decision.reasons else ""
    told = f"{moment(decision.time)} {decision.action} at {decision.percentage:g} %{to} by {decision.actor}{why}"
    return visible(told)  # the store may hold words that somebody else has written


def history_lines(decisions: Iterable[Decision]) -> list[str]:
    """Decisions, the latest first."""
    return [f"{visible(each.agent)}  {decision_line(each)}" for each in decisions] or ["no decision yet"]


def decision_json(decision: Decision, *, numbers: bool = True) -> dict[str, Any]:
    """A decision in plain JSON values."""
    found = decision._asdict()
    if not numbers:
        del found["evidence"]
    return found

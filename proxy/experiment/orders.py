"""What a person tells a ramp to do.  All agents that are named, or none where one is refused."""

from collections.abc import Iterable, Sequence

from proxy.experiment.actions import FAILED, PAUSED, Action, Plan, reasons_of, wish_of
from proxy.experiment.controller import Controller, Done, Look, Step
from proxy.experiment.verdict import Because


class Refused(Exception):  # noqa: N818 an answer
    """Something stands against it, and nothing was done; `steps` are all, with what stands against each."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__("; ".join(f"{step.look.agent}: {', '.join(map(str, step.plan.because))}" for step in steps))
        self.steps = tuple(steps)


def go_to(controller: Controller, looks: Iterable[Look], target: float | None, force: str = "") -> Done:
    """Set the percentage, None: the next step's.  Up only past the gates, or with `force`, which says why.

    Raises Refused, and as `evaluate` does.  Whoever is there already stays, and nothing is recorded.
    """
    steps = []
    for look in looks:
        verdict, evidence = look.verdict, look.evidence
        wanted = verdict.next_percentage if target is None else target
        if wanted is not None and wanted != evidence.percentage:
            steps.append(Step(look, wish_of(verdict, evidence, wanted, force)))
    if not force and any(step.plan.because for step in steps):
        raise Refused(steps)
    return controller.carry_out(steps)


def roll_back(controller: Controller, looks: Iterable[Look], reason: str) -> Done:
    """To 0 %, and there until the failure is cleared."""
    return controller.carry_out([Step(look, Plan(Action.ROLLBACK, 0.0, (), FAILED, reason)) for look in looks])


def pause(controller: Controller, looks: Sequence[Look], reason: str) -> Done:
    """Leave the agents where they are, whatever the gates say.  Raises Refused for what has failed."""
    steps = [Step(look, Plan(Action.PAUSE, None, (), PAUSED, reason)) for look in looks]
    if failed := [step for step in steps if _held(step.look) == FAILED]:
        raise Refused([step._replace(plan=step.plan._replace(because=_reasons(step.look))) for step in failed])
    return controller.carry_out(steps)


def resume(controller: Controller, looks: Iterable[Look]) -> Done:
    """End a pause; agents without one are left out."""
    lifted = [Step(look, Plan(Action.RESUME, None, (), "")) for look in looks if _held(look) == PAUSED]
    return controller.carry_out(lifted)


def clear(controller: Controller, looks: Iterable[Look]) -> Done:
    """Release what failed, and the brake; agents without either are left out."""
    return controller.carry_out(
        [
            Step(look, Plan(Action.CLEAR, None, (), "" if _held(look) == FAILED else None))
            for look in looks
            if _held(look) == FAILED or look.evidence.brake is not None
        ]
    )


def _reasons(look: Look) -> tuple[Because, ...]:
    return reasons_of(look.verdict, look.evidence)


def _held(look: Look) -> str:
    return look.evidence.hold.kind if look.evidence.hold else ""

"""Moves ramps: looks at the evidence, decides, writes the decision down, edits the policy.

The order of writes, and what a crash between two of them leaves:

1. The edit is tried without writing: what cannot be written is not decided.
2. Holds and decisions, in one transaction, before anything moves.  A crash from here on leaves a decision
   that was not carried out: an advance is decided anew, on new numbers; a latched failure above 0 % is
   rolled back at the next look (`actions.py`).  The other order would leave a move that nobody can explain.
3. The policy, in one step; not where somebody has changed it since it was read.

Percentages are only ever read from the policy.  Nobody decides without the lease.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from proxy.experiment import memory
from proxy.experiment.actions import Action, Plan, plan_of, since_the_last_move
from proxy.experiment.evidence import Evidence, Hold
from proxy.experiment.judge import judge
from proxy.experiment.memory import Decision
from proxy.experiment.numbers import numbers_of
from proxy.experiment.percentages import FixedPercentage, changes_for
from proxy.experiment.read import read_evidence
from proxy.experiment.verdict import Verdict
from proxy.ids import new_id
from proxy.ledger import brakes
from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.policy.edit import EditedPolicy, EditError, edit_policy
from proxy.policy.load import LoadedPolicy
from proxy.policy.problems import PolicyError
from proxy.policy.splice import KeyPath, Value


class Look(NamedTuple):
    """One agent at one moment."""

    agent: str
    evidence: Evidence
    verdict: Verdict
    last: Decision | None  # the latest of all decisions on it


class Step(NamedTuple):
    """What is done for one agent."""

    look: Look
    plan: Plan

    @property
    def target(self) -> float:
        """The percentage afterwards."""
        return self.look.evidence.percentage if self.plan.target is None else self.plan.target

    @property
    def moves(self) -> bool:
        """Whether the percentage changes."""
        return self.target != self.look.evidence.percentage


class Done(NamedTuple):
    """What was done."""

    steps: tuple[Step, ...]
    edited: EditedPolicy | None  # None: no percentage changes
    written: bool  # False: it is for somebody else to apply


@dataclass(frozen=True, slots=True)
class Controller:
    """One policy and one store; whoever decides with it has the lease."""

    path: Path
    env: Mapping[str, str]
    loaded: LoadedPolicy
    database: Database
    actor: str  # who decides, as the history shows it
    clock: Callable[[], float]
    apply: bool = True  # False: the policy's file is not ours to write
    confirm: Callable[[], None] = lambda: None  # that the lease is still ours; raises Busy

    def look(self, agents: Iterable[str], *, progress: Callable[[], None] = lambda: None) -> list[Look]:
        """Read and judge; changes nothing.  Raises DatabaseUnavailable."""
        looks = []
        for agent in agents:
            looks.append(self._look(agent))
            progress()
        return looks

    def _look(self, name: str) -> Look:
        agent = self.loaded.policy.agents[name.encode()]
        rollout = self.loaded.config.rollout
        evidence = read_evidence(self.database, name, agent.salt, agent.percentage, self.clock())
        moved = memory.moved_to(self.database, name, agent.salt, agent.percentage)
        evidence = since_the_last_move(evidence, moved)
        verdict = judge(evidence, rollout, rollout.observe)
        return Look(name, evidence, verdict, next(iter(memory.history(self.database, name, 1)), None))

    def evaluate(self, agents: Iterable[str], *, progress: Callable[[], None] = lambda: None) -> Done:
        """One look at each agent, and what follows from it; one that cannot be moved keeps no other where it is.

        Raises DatabaseUnavailable, and EditError or PolicyError where the policy cannot be changed.
        """
        looks = self.look(agents, progress=progress)
        rollout = self.loaded.config.rollout
        with self.database.transaction():
            for look in looks:
                memory.keep_p_values(self.database, look.agent, look.evidence.salt, look.verdict.p_values)
        steps = [Step(look, plan_of(look.verdict, look.evidence, rollout)) for look in looks]
        return self.carry_out([self._without_what_is_stuck(step) for step in steps])

    def carry_out(self, steps: Sequence[Step]) -> Done:
        """Write down what was decided, then do it.  Raises FixedPercentage, and as `evaluate` does."""
        changes = self._changes(steps)
        edited = self._edit(changes, dry_run=True) if changes else None
        self.confirm()
        with self.database.transaction():
            for step in steps:
                self._remember(step)
        if edited is not None and self.apply:
            try:
                edited = self._edit(changes, dry_run=False)
            except (EditError, PolicyError) as error:
                self._take_back(steps, error)
                raise
        return Done(tuple(steps), edited, edited is not None and self.apply)

    def _without_what_is_stuck(self, step: Step) -> Step:
        """The step, or that the policy does not allow it."""
        try:
            if changes := self._changes([step]):
                self._edit(changes, dry_run=True)
        except (FixedPercentage, PolicyError) as error:
            return Step(step.look, step.plan._replace(action=Action.NOT_DONE, target=None, reason=_line(error)))
        return step

    def _changes(self, steps: Iterable[Step]) -> dict[KeyPath, Value]:
        targets = {step.look.agent: step.target for step in steps if step.moves}
        return changes_for(self.loaded, targets) if targets else {}

    def _edit(self, changes: Mapping[KeyPath, Value], *, dry_run: bool) -> EditedPolicy:
        return edit_policy(self.path, changes, self.env, dry_run=dry_run, expected=self.loaded.fingerprint)

    def _remember(self, step: Step) -> None:
        agent, plan = step.look.agent, step.plan
        if plan.hold:
            why = ", ".join(map(str, plan.because))
            reason = why if plan.action is Action.NOT_DONE else plan.reason or why
            memory.put_hold(self.database, agent, Hold(plan.hold, reason, self.clock()), self.actor)
        elif plan.hold is not None:
            memory.lift_hold(self.database, agent)
        if plan.action is Action.CLEAR:
            brakes.clear(self.database, agent, self.clock(), self.actor)
        if not is_old_news(step):
            self._record(step, plan.action, reasons_told(plan))

    def _record(self, step: Step, action: Action, reasons: tuple[str, ...]) -> None:
        (agent, evidence, verdict, _), plan = step
        numbers = numbers_of(evidence, verdict, self.loaded.policy.hash)
        now = self.clock()
        memory.record(
            self.database,
            Decision(
                new_id(now), now, agent, evidence.salt, evidence.percentage, str(action), plan.target, reasons,
                self.actor, numbers,
            ),
        )  # fmt: skip

    def _take_back(self, steps: Sequence[Step], error: Exception) -> None:
        """Say in the history that the moves did not happen; what is held stays held."""
        with contextlib.suppress(DatabaseUnavailable), self.database.transaction():
            for step in steps:
                if step.moves:
                    self._record(step, Action.NOT_DONE, (_line(error),))


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]


def reasons_told(plan: Plan) -> tuple[str, ...]:
    """A plan's reasons as the history has them, a person's own words last."""
    return (*map(str, plan.because), *filter(None, (plan.reason,)))


def is_old_news(step: Step) -> bool:
    """Whether the history's last word on the agent is that it waits, where it is and for the same reasons."""
    (_, evidence, _, last), plan = step
    if last is None or plan.action not in (Action.HOLD, Action.NOT_DONE):
        return False
    before = (last.action, last.salt, last.percentage, tuple(last.reasons))
    return before == (plan.action, evidence.salt, evidence.percentage, reasons_told(plan))

"""One order of `splitlane rollout`, from the arguments to what is printed and the exit code."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping

from proxy.cli.progress import Progress
from proxy.cli.rollout_desk import RolloutError, chosen, deciding, looking, lower_without_the_store
from proxy.cli.rollout_notice import announce
from proxy.cli.rollout_text import (
    decision_json,
    done_json,
    history_lines,
    patch_of,
    reason_line,
    status_json,
    status_lines,
    step_json,
    step_lines,
)
from proxy.cli.rollout_watch import watch
from proxy.experiment import memory, orders
from proxy.experiment.actions import FAILED, PAUSED, Action, is_failing, reasons_of
from proxy.experiment.controller import Controller, Done, Look
from proxy.experiment.lease import Busy
from proxy.experiment.orders import Refused
from proxy.experiment.percentages import FixedPercentage, switched_off
from proxy.experiment.verdict import Outcome
from proxy.ledger.database import DatabaseUnavailable, RowRejected
from proxy.policy.edit import EditError
from proxy.policy.problems import PolicyError

DONE, REFUSED, UNUSABLE, FAILING, BUSY = range(5)  # exit codes

Order = Callable[[argparse.Namespace, Mapping[str, str]], int]


def obey(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Do as told; the exit code.  Raises `PolicyError`."""
    order = _ORDERS[args.order]
    if args.order == "run" and args.watch:
        return watch(lambda: _tried(order, args, env), args.every)
    return _tried(order, args, env)


def _tried(order: Order, args: argparse.Namespace, env: Mapping[str, str]) -> int:
    """The order's exit code; what kept it from being done is told, a line each."""
    try:
        return order(args, env)
    except Refused as refusal:
        return _refused(refusal, args)
    except PolicyError as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    except Busy as error:
        code, message = BUSY, str(error)
    except (DatabaseUnavailable, RowRejected, EditError, FixedPercentage, RolloutError) as error:
        code, message = UNUSABLE, str(error)
    print(f"splitlane rollout: {message}", file=sys.stderr)
    return code


def _refused(refusal: Refused, args: argparse.Namespace) -> int:
    holds = {step.look.evidence.hold.kind for step in refusal.steps if step.look.evidence.hold}
    ways = (
        ("`splitlane rollout clear` releases what has failed", FAILED in holds),
        ("`splitlane rollout resume` ends the pause", PAUSED in holds),
        ('--force "why" overrides the gates', args.order in (None, "advance")),
    )
    for step in refusal.steps:
        stays = f"{step.look.agent} stays at {step.look.evidence.percentage:g} %"
        for because in step.plan.because:
            print(f"splitlane rollout: {stays}: {reason_line(because)}", file=sys.stderr)
    advice = "".join(f"; {way}" for way, leads_on in ways if leads_on)
    print(f"splitlane rollout: nothing was changed{advice}", file=sys.stderr)
    if args.json:
        shown = {"refused": True, "written": False, "files": [], "agents": [step_json(step) for step in refusal.steps]}
        print(json.dumps(shown, ensure_ascii=False))
    return REFUSED


# --- orders -------------------------------------------------------------------------------------------


def _status(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with looking(args, env) as controller:
        looks = _looks(controller, args)
    policy, off = controller.loaded.policy, switched_off(controller.loaded.config)
    if args.json:
        agents = [status_json(look, policy.hash) for look in looks]
        shown = {"policy": policy.hash, "file": str(controller.path), "switched_off": off or None, "agents": agents}
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(f"{controller.path} ({policy.environment}, {policy.hash})")
        if off:
            print(f"the ramp does nothing: {off}")
        print(*status_lines(looks, time.time()), sep="\n")
    return FAILING if any(map(_fails, looks)) else DONE


def _history(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with looking(args, env) as controller:
        names = chosen(controller.loaded, args.agent)
        found = [each for name in names for each in memory.history(controller.database, name, args.limit)]
    found = sorted(found, key=lambda each: (each.time, each.id), reverse=True)[: args.limit]
    if args.json:
        print(json.dumps([decision_json(each) for each in found], ensure_ascii=False))
    else:
        print(*history_lines(found), sep="\n")
    return DONE


def _run(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with deciding(args, env) as controller:
        names = chosen(controller.loaded, args.agent)
        with Progress("agents judged", len(names)) as progress:
            done = controller.evaluate(names, progress=progress.step)
    _show(done, args)
    announce(done, controller.loaded.policy)
    if stuck := [step for step in done.steps if step.plan.action is Action.NOT_DONE]:
        for step in stuck:
            print(f"splitlane rollout: {step.look.agent} cannot be moved: {step.plan.reason}", file=sys.stderr)
        return UNUSABLE
    undone = any(step.plan.action is Action.ROLLBACK for step in done.steps)
    return FAILING if undone or any(_fails(step.look) for step in done.steps) else DONE


def _percentage(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    try:
        with deciding(args, env) as controller:
            done = orders.go_to(controller, _looks(controller, args), args.percentage, args.force)
    except (DatabaseUnavailable, Busy) as error:
        return _lowered(args, env, args.percentage, error)
    return _show(done, args, f"at {args.percentage:g} % already")


def _advance(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with deciding(args, env) as controller:
        done = orders.go_to(controller, _looks(controller, args), None, args.force)
    return _show(done, args, "the last step is reached")


def _rollback(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    try:
        with deciding(args, env) as controller:
            done = orders.roll_back(controller, _looks(controller, args), args.reason or "by hand")
    except (DatabaseUnavailable, Busy) as error:
        return _lowered(args, env, 0.0, error)
    return _show(done, args)


def _pause(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with deciding(args, env) as controller:
        done = orders.pause(controller, _looks(controller, args), args.reason)
    return _show(done, args)


def _resume(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with deciding(args, env) as controller:
        done = orders.resume(controller, _looks(controller, args))
    return _show(done, args, "nothing is paused")


def _clear(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    with deciding(args, env) as controller:
        done = orders.clear(controller, _looks(controller, args))
    if done.steps:
        print("the same data fails again, unless the model or the salt has changed", file=sys.stderr)
    return _show(done, args, "nothing has failed, and no brake is tripped")


_ORDERS: Mapping[str | None, Callable[[argparse.Namespace, Mapping[str, str]], int]] = {
    None: _percentage, "status": _status, "advance": _advance, "pause": _pause, "resume": _resume,
    "rollback": _rollback, "clear": _clear, "run": _run, "history": _history,
}  # fmt: skip


def _looks(controller: Controller, args: argparse.Namespace) -> list[Look]:
    names = chosen(controller.loaded, args.agent)
    with Progress("agents judged", len(names)) as progress:
        return controller.look(names, progress=progress.step)


def _fails(look: Look) -> bool:
    return look.verdict.outcome is Outcome.FAIL or is_failing(reasons_of(look.verdict, look.evidence))


def _lowered(args: argparse.Namespace, env: Mapping[str, str], target: float, error: Exception) -> int:
    """Where the store, or who decides in it, is in the way of less: the policy is changed all the same."""
    edited = lower_without_the_store(args, env, target, error)
    code = _show(Done((), edited, written=args.output == "file"), args, f"at {target:g} % already")
    print(f"splitlane rollout: {error}: neither recorded nor held at {target:g} %", file=sys.stderr)
    return code


def _show(done: Done, args: argparse.Namespace, nothing: str = "") -> int:
    """Print what was done, or why there was nothing to do; 0."""
    patched = args.output == "configmap-patch"
    if args.json:
        patch = {"patch": patch_of(done, args.configmap_key)} if patched else {}
        print(json.dumps({**done_json(done), **patch}, ensure_ascii=False), flush=True)
        return DONE
    lines = [line for step in done.steps for line in step_lines(step)]
    if done.edited is not None and done.written:
        lines += [f"wrote {edit.path}" for edit in done.edited.files]
    lines += (
        [f"{each.path} extends the same file and changes too" for each in done.edited.others] if done.edited else []
    )
    if not lines and nothing:
        lines = [f"nothing to change: {nothing}"]
    for line in lines:
        print(line, file=sys.stderr if patched else sys.stdout, flush=True)
    if patched:
        print(json.dumps(patch_of(done, args.configmap_key), ensure_ascii=False), flush=True)
    return DONE

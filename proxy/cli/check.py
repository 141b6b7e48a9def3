"""Say whether policy files are sound: every error with its place, or a table of what each file does.

Without --live nothing is sent, and environment variables that are unset get a placeholder. With --live
each upstream is asked whether it takes the policy's key and has the policy's models.

Exit codes: 0 sound; 1 with --live: a key is refused, a model missing, an upstream out of reach;
2 a file cannot be used.

examples:
  splitlane check policies/production.yaml
  splitlane check policies/*.yaml
  MISTRAL_API_KEY=… SLACK_WEBHOOK_URL=… splitlane check policies/production.yaml --live
  splitlane check my.yaml --json
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.policy.diff_text import target_json
from proxy.policy.load import LoadedPolicy, read_policy
from proxy.policy.moves import finetuned_share
from proxy.policy.placeholders import Placeholders
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.snapshot import AgentPolicy, Target

if TYPE_CHECKING:
    from proxy.cli.live import Verdict


class Checked(NamedTuple):
    """One file and what there is to say of it."""

    path: Path
    loaded: LoadedPolicy | None  # None: it cannot be used
    problems: tuple[PolicyProblem, ...]  # why not
    unset: tuple[str, ...]  # variables that a placeholder stands for
    live: "tuple[Verdict, ...]"  # empty without --live

    @property
    def exit_code(self) -> int:
        """0 sound, 1 not as its upstreams see it, 2 unusable."""
        return 2 if self.loaded is None else int(any(verdict.fails for verdict in self.live))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="policy files")
    parser.add_argument("--live", action="store_true", help="ask each upstream whether keys work and models exist")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object a file")


def run(args: argparse.Namespace) -> int:
    """Check all files; the worst of them decides the exit code."""
    checked = []
    for path in args.files:
        found = _check(path, live=args.live)
        checked.append(found)
        if not args.json:  # each as soon as it is known
            print(*map(str, found.problems), sep="\n", end="\n" if found.problems else "", file=sys.stderr, flush=True)
            print("".join(f"{line}\n" for line in _lines(found)), end="", flush=True)
    if args.json:
        print(json.dumps([_as_json(found) for found in checked], ensure_ascii=False))
    return max(found.exit_code for found in checked)


def _check(path: Path, *, live: bool) -> Checked:
    env = Placeholders(os.environ)
    try:
        # What is sent must be real, so nothing stands in for a key.
        loaded = read_policy(path, os.environ if live else env)
    except PolicyError as error:
        return Checked(path, None, error.problems, tuple(env.unset), ())
    verdicts: tuple[Verdict, ...] = ()
    if live:
        from proxy.cli.live import ask_upstreams  # noqa: PLC0415 aiohttp takes longer to import than files to check

        verdicts = tuple(asyncio.run(ask_upstreams(loaded.policy)))
    return Checked(path, loaded, (), tuple(env.unset), verdicts)


def _lines(checked: Checked) -> Iterator[str]:
    if checked.loaded is None:
        return
    policy, _, warnings, *_ = checked.loaded
    yield f"{checked.path}: OK ({policy.environment}, {policy.hash})"
    yield from (f"  warning: {warning}" for warning in warnings)
    if checked.unset:
        yield f"  unset, and needed to serve: {', '.join(checked.unset)}"
    yield from _table(list(policy.agents.values()))
    yield from (f"  live: {verdict}" for verdict in checked.live)


def _table(agents: list[AgentPolicy]) -> Iterator[str]:
    """Two rows an agent, fine-tuned first; prices are US dollars per million tokens."""
    rows = [("agent", "share", "model", "$/M in", "$/M out")]
    for agent in agents:
        share = finetuned_share(agent) * 100
        rows.append((agent.name, f"{share:.4g} %", *_cells(agent.finetuned)))
        rows.append(("", f"{100 - share:.4g} %", *_cells(agent.baseline)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for name, share_text, model, paid_in, paid_out in rows if agents else []:
        yield (
            f"  {name:<{widths[0]}}  {share_text:>{widths[1]}}  {model:<{widths[2]}}"
            f"  {paid_in:>{widths[3]}}  {paid_out:>{widths[4]}}"
        )


def _cells(target: Target) -> tuple[str, str, str]:
    model = f"{target.model} at {target.upstream.name}"
    if target.price is None:
        return model, "no price", "no price"
    return model, f"{target.price.input:g}", f"{target.price.output:g}"


def _as_json(checked: Checked) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "file": str(checked.path),
        "ok": checked.exit_code == 0,
        "errors": [problem._asdict() for problem in checked.problems],
        "unset": list(checked.unset),
        "live": [verdict._asdict() for verdict in checked.live],
    }
    if checked.loaded is not None:
        policy, _, warnings, *_ = checked.loaded
        shown |= {
            "environment": policy.environment,
            "hash": policy.hash,
            "warnings": [warning._asdict() for warning in warnings],
            "agents": {agent.name: _agent_json(agent) for agent in policy.agents.values()},
        }
    return shown


def _agent_json(agent: AgentPolicy) -> dict[str, Any]:
    return {
        "percentage": agent.percentage,
        "salt": agent.salt,
        "fine_tuned": target_json(agent.finetuned),
        "fallback": target_json(agent.baseline),
    }

"""Move the ramp on evidence. Every change is written into the policy file, comments and order kept, and every
decision into the store, with the numbers it rested on.

--percentage sets a percentage: a higher one only where the gates pass, or with --force, which says why;
a lower one at once. status shows where each agent is, what it waits for and how long. advance goes to the
next step; asking for it is the approval. run looks once and does what follows: on to the next step, back
to 0 % where a guardrail fails or the brake is tripped, or nothing; it starts a ramp from 0 % only after
rollout.observe. pause leaves an agent alone, resume ends that; rollback goes to 0 % and stays there until
clear. Without --agent all agents are meant; where one is refused, none moves (run looks at each by itself).

Where the policy is mounted read-only, --output configmap-patch prints what kubectl takes instead.

Exit codes: 0 done, also where run finds that nothing is to be done; 1 refused, nothing was changed;
2 the policy, the store or an argument cannot be used; 3 run, status: an agent has failed; 4 somebody else
is deciding.

examples:
  splitlane rollout --percentage 25 --policy policies/production.yaml
  splitlane rollout --percentage 50 --agent qa_agent --force "the vendor retires the old model tonight"
  splitlane rollout status --json
  splitlane rollout advance --agent qa_agent --agent legal_agent
  splitlane rollout rollback "answers in the wrong language" --agent qa_agent
  splitlane rollout run --watch --every 5m
  splitlane rollout history --limit 50
  kubectl patch configmap splitlane --type merge -p "$(splitlane rollout run --output configmap-patch)"
"""

import argparse
import math
import os
from pathlib import Path

from proxy.cli.report import store_url
from proxy.policy.units import parse_duration

_SUBCOMMANDS = {
    "status": "where each agent is, its verdict, what it waits for",
    "advance": "to the next step",
    "pause": "leave it where it is",
    "resume": "end a pause",
    "rollback": "to 0 %%, and there until it is cleared",
    "clear": "release what has failed, and its brake",
    "run": "look, and do what follows",
    "history": "what was decided, when, by whom and why",
}
_MOVING = ("", "advance", "rollback", "run")


def percentage(text: str) -> float:
    """0 … 100 with at most two decimals; raises ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 100 or round(found, 2) != found:
        raise argparse.ArgumentTypeError(f"expected 0 to 100 with at most two decimals, got {text!r}")
    return found


def period(text: str) -> float:
    """A duration of at least a second; raises ArgumentTypeError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"expected a duration of at least 1s, such as 5m; got {text!r}")
    return seconds


def words(text: str) -> str:
    """A reason; raises ArgumentTypeError."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("expected a reason, in words on one line")
    return text.strip()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.set_defaults(agent=[], policy=None, store=None, json=False, output="file", configmap_key=None, force="",
                        by="")  # fmt: skip
    wish = parser.add_argument("--percentage", type=percentage, metavar="N", help="set it to N %%, 0 to 100")
    _add_shared(parser)
    _add_moving(parser)
    _add_force(parser)
    kinds = parser.add_subparsers(dest="order", metavar="|".join(_SUBCOMMANDS))
    for name, text in _SUBCOMMANDS.items():
        command = kinds.add_parser(name, help=text)
        _add_shared(command)
        if name in _MOVING:
            _add_moving(command)
        if name == "advance":
            _add_force(command)
        if name in ("pause", "rollback"):
            command.add_argument("reason", metavar="REASON", type=words, nargs=None if name == "pause" else "?",
                                 help="why, for the history")  # fmt: skip
        if name == "run":
            command.add_argument("--watch", action="store_true", help="go on until SIGTERM or SIGINT")
            command.add_argument("--every", type=period, default=300.0, metavar="TIME",
                                 help="with --watch: how often to look (default: 5m)")  # fmt: skip
        if name == "history":
            command.add_argument("--limit", type=int, default=20, metavar="N", help="how many, latest first")
    parser.set_defaults(wrong=lambda message: parser.error(f"argument {wish.option_strings[0]}: {message}"))


def run(args: argparse.Namespace) -> int:
    """Do as told; raises `PolicyError`."""
    if args.order is None and args.percentage is None:
        args.wrong("expected it, or one of " + ", ".join(_SUBCOMMANDS))
    if args.order is not None and args.percentage is not None:
        args.wrong(f"not allowed with {args.order}")
    from proxy.cli.rollout_orders import obey  # noqa: PLC0415 after the arguments are known to be sound

    return obey(args, dict(os.environ))


# Left out, an option does not hide what was said of it before the subcommand.
_SAID_BEFORE = argparse.SUPPRESS


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", type=Path, metavar="FILE", default=_SAID_BEFORE,
                        help="policy file (default: policies/$GENESIS_ENV.yaml)")  # fmt: skip
    parser.add_argument("--store", type=store_url, metavar="URL", default=_SAID_BEFORE,
                        help="the store, if it is not the one the policy names")  # fmt: skip
    parser.add_argument("--agent", action="append", metavar="NAME", default=_SAID_BEFORE,
                        help="only this one; may be repeated")  # fmt: skip
    parser.add_argument("--by", type=words, metavar="WHO", default=_SAID_BEFORE,
                        help="on whose behalf, for the history (default: your user@host)")  # fmt: skip
    parser.add_argument("--json", action="store_true", default=_SAID_BEFORE,
                        help="print JSON; times in Unix seconds, durations in seconds, shares 0 … 1")  # fmt: skip


def _add_moving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", choices=("file", "configmap-patch"), default=_SAID_BEFORE,
                        help="configmap-patch: print a JSON merge patch, and leave the file alone")  # fmt: skip
    parser.add_argument("--configmap-key", metavar="NAME", default=_SAID_BEFORE,
                        help="the file's key in the ConfigMap (default: its name)")  # fmt: skip


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", type=words, metavar="REASON", default=_SAID_BEFORE,
                        help="whatever the gates say; recorded with your name")  # fmt: skip

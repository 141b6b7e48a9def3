"""Say what a change of policy does before it happens: per agent, what changes, which share of its users
moves in which direction, and what becomes more expensive per million tokens.

Environment variables that the files need and that are unset get a placeholder: nothing is sent.

Exit codes: 0 nobody moves back from fine-tuned, or only where the percentage falls; 1 users move back
although it does not fall (another salt, another `compat`, an agent removed); 2 a file cannot be used.

examples:
  splitlane diff policies/staging.yaml policies/production.yaml
  git show HEAD:policies/production.yaml > policies/_old.yaml
  splitlane diff policies/_old.yaml policies/production.yaml --json
"""

import argparse
import json
import os
from pathlib import Path

from proxy.policy.diff import diff_policies
from proxy.policy.load import load_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.snapshot import Policy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("old", type=Path, metavar="OLD", help="the policy file before")
    parser.add_argument("new", type=Path, metavar="NEW", help="the policy file after")
    parser.add_argument("--json", action="store_true", help="print JSON; shares are 0 … 1")


def run(args: argparse.Namespace) -> int:
    """Compare two files; raises `PolicyError` with the problems of both."""
    policies: list[Policy] = []
    problems: list[PolicyProblem] = []
    env = Placeholders(os.environ)
    for path in (args.old, args.new):
        try:
            policies.append(load_policy(path, env))
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(tuple(dict.fromkeys(problems)))  # both may extend one file
    diff = diff_policies(*policies)
    if args.json:
        print(json.dumps(diff.as_json(), ensure_ascii=False))
    else:
        print(*diff.lines(), sep="\n")
    return 1 if diff.regresses else 0

"""Say which variant a user gets, and why.

A user enters the fine-tuned variant at the percentage shown, and stays in it at every higher one, as
long as the salt is the same. Nothing is sent; unset environment variables do not matter.

Exit codes: 0 done; 2 the policy cannot be used, or does not know the agent.

examples:
  splitlane assign --agent qa_agent --user user-17
  splitlane assign --agent qa_agent --user user-17 --user user-18 --policy policies/production.yaml
  cut -d, -f1 users.csv | splitlane assign --agent qa_agent --user - --json
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.policy.load import default_policy_path, load_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.snapshot import AgentPolicy
from proxy.split.assign import assign, explain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--agent", required=True, help="the agent's name")
    parser.add_argument(
        "--user",
        action="append",
        required=True,
        help="the user's id, exactly as clients send it; may be repeated; -: one a line from standard input",
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="policy file (default: policies/$GENESIS_ENV.yaml)")
    parser.add_argument("--json", action="store_true", help="print a JSON object per user, one a line")


def run(args: argparse.Namespace) -> int:
    """Explain users; raises `PolicyError`."""
    policy = load_policy(args.policy or default_policy_path(os.environ), Placeholders(os.environ))
    agent = policy.agents.get(os.fsencode(args.agent))
    if agent is None:
        known = ", ".join(found.name for found in policy.agents.values()) or "none"
        print(f"splitlane assign: unknown agent {args.agent!r}; the policy knows: {known}", file=sys.stderr)
        return 2
    if not args.json:
        compat = ", compat unleash" if agent.unleash else ""
        print(f"{agent.name}: {agent.percentage:g} % fine-tuned, salt {agent.salt}{compat}, policy {policy.hash}")
        print(f"{'variant':<11}{'enters at':>10}{'bucket':>8}{'hash':>12}  user")
    for user in _users(args.user):
        row = _row(agent, user)
        print(json.dumps(row, ensure_ascii=False) if args.json else _line(row))
    return 0


def _users(named: list[str]) -> Iterator[bytes]:
    """The users' bytes, exactly as given; lines of standard input lose their line break, empty ones are none."""
    for name in named:
        if name == "-":
            yield from (user for line in sys.stdin.buffer if (user := line.rstrip(b"\r\n")))
        else:
            yield os.fsencode(name)


def _row(agent: AgentPolicy, user: bytes) -> dict[str, Any]:
    decision, found = assign(agent, user), explain(agent, user)
    return {
        "agent": agent.name,
        "user": user.decode(errors="replace"),
        "variant": decision.variant.value,
        "assignment": decision.assignment.value,
        "hash": None if found is None else found.hash,
        "bucket": None if found is None else found.bucket,
        "enters_at": None if found is None else found.enters_at,
        "percentage": agent.percentage,
        "salt": agent.salt,
    }


def _line(row: dict[str, Any]) -> str:
    if row["hash"] is None:
        return f"{row['variant']:<11}{'–':>10}{'–':>8}{'–':>12}  (no user: never hashed)"
    user = "".join(letter if letter.isprintable() else "?" for letter in row["user"])
    return f"{row['variant']:<11}{row['enters_at']:>8g} %{row['bucket']:>8}{row['hash']:>12}  {user}"

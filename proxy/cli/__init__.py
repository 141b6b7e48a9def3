"""The `splitlane` command: argv to one command each.

Only the command that is asked for is imported: `serve` starts without what the others need.
"""

import argparse
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from proxy import __version__, is_compiled
from proxy.policy.problems import PolicyError

# Name → the module with `add_arguments` and `run`, and a line of help.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("proxy.cli.serve", "run the proxy"),
    "check": ("proxy.cli.check", "say whether policy files are sound; --live: and their keys and models too"),
    "diff": ("proxy.cli.diff", "say what a change of policy does: which share of users moves, what costs more"),
    "assign": ("proxy.cli.assign", "say which variant a user gets, and why"),
    "models": ("proxy.cli.models", "the registry: verify that models answer, import fine-tuned ones into the policy"),
    "report": ("proxy.cli.report", "say what happened: users, success, latency, cost per agent and variant"),
    "rollout": ("proxy.cli.rollout", "move the ramp on evidence: status, percentages, rollback, the controller"),
    "simulate": ("proxy.cli.simulate", "say what a ramp would do: how long, how often wrong, how many users exposed"),
    "health": ("proxy.cli.health", "ask a running proxy whether it is alive, ready, or how an agent is served"),
    "stub": ("proxy.stub.command", "run an upstream to try it with: speaks both dialects, misbehaves on demand"),
    "demo": ("proxy.cli.demo", "stub, proxy and real SDK traffic in one process; prints the split and the rescues"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="splitlane",
        description="Splits an orchestrator's LLM traffic between fine-tuned models and a baseline.",
    )
    build = "compiled" if is_compiled() else "pure Python"
    parser.add_argument("--version", action="version", version=f"splitlane {__version__} ({build})")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    gc.disable()  # modules are no garbage: looking for some took a seventh of a start
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == wanted:
            module = import_module(module_name)
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    gc.enable()
    args = parser.parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except PolicyError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it; nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())

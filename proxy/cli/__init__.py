"""The `splitlane` command: argv to one command each."""

import argparse
import sys
from collections.abc import Sequence

from proxy import __version__, is_compiled
from proxy.cli import demo, serve
from proxy.stub import command as stub


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="splitlane",
        description="Splits an orchestrator's LLM traffic between fine-tuned models and a baseline.",
    )
    build = "compiled" if is_compiled() else "pure Python"
    parser.add_argument("--version", action="version", version=f"splitlane {__version__} ({build})")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module, text in (
        ("serve", serve, "run the proxy"),
        ("stub", stub, "run an upstream to try it with: speaks both dialects, misbehaves on demand"),
        ("demo", demo, "stub, proxy and real SDK traffic in one process; prints the split and the rescues"),
    ):
        command = commands.add_parser(
            name, help=text, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""What the manifests are tested with: programs of the `dev` extra, and the arguments of our own."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from proxy.cli import COMMANDS

BIN = Path(sys.executable).parent


def installed(name: str) -> str:
    """The path of a program of this environment; an AssertionError says what is missing."""
    path = BIN / name
    assert path.exists(), f"{name} is missing: pip install --editable '.[dev]'"
    return str(path)


def arguments(command: str) -> argparse.ArgumentParser:
    """What `splitlane COMMAND` takes; raises ArgumentError on anything else."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    import_module(COMMANDS[command][0]).add_arguments(parser)
    return parser

"""What the `dev` extra installs beside Python's own programs."""

import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def installed(name: str) -> str:
    """The path of a program of this environment; an AssertionError says what is missing."""
    path = BIN / name
    assert path.exists(), f"{name} is missing: pip install --editable '.[dev]'"
    return str(path)

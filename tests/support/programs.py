"""Programs of the machine that tests run: a missing one is a failure that says what to install."""

import shutil

import pytest


def program(name: str, package: str) -> str:
    """The path of a program; fails the test, naming the Debian package, where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is missing on this machine; install with: apt-get install {package}")
    return path

"""Programs of the machine that tests run: a missing one is installed, or is a failure that says what to install."""

import os
import shutil
import subprocess

import pytest


def program(name: str, package: str) -> str:
    """The path of a program; root gets its Debian package where it is missing, anybody else a failed test."""
    if shutil.which(name) is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        install = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package)
        for command in (("apt-get", "update", "--quiet"), install):
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, timeout=300)
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is missing on this machine; install with: apt-get install {package}")
    return path

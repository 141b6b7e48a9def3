"""A command run to its end, as a process of its own."""

import os
import subprocess
import sys

from tests.support.served import ROOT

_KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")


def splitlane(*argv: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
    """`splitlane argv…` without any variable that a policy may ask for, but those given."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *argv],
        cwd=ROOT,
        env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"COLUMNS": "100"} | env,
        capture_output=True,
        input=stdin,
        timeout=30,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

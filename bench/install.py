"""`python -m bench.install [NAME …]`: what a run needs, and the rivals, each in a folder of its own.

Debian's nginx and wrk are installed where we are root, otherwise named.  Rivals go to `.rivals/NAME`, at the versions
pinned in `rivals/`; one that is there already is left as it is.  A rival that cannot be installed is told of, and no
failure: the run goes on without it.  Exit codes: 0 a run can start, 2 it cannot.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contenders import CONTENDERS
from bench.fleet import find_tools
from bench.plan import HERE, PINNED, RIVALS, BenchError, loudly

PINS = HERE / "rivals"
TOOLS = ("nginx", "wrk", "taskset")
LONGEST = 900  # seconds, of one command; litellm brings a hundred packages


def main() -> int:
    """Entry point; the exit code."""
    known = [contender.name for contender in CONTENDERS if contender.rival]
    parser = argparse.ArgumentParser(
        prog="python -m bench.install", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rivals", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; none: all")
    wanted = parser.parse_args().rivals or known
    if unknown := set(wanted) - set(known):
        parser.error(f"unknown rival {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    try:
        tools()
    except BenchError as error:
        loudly(str(error))
        return error.exit_code
    for name in wanted:
        try:
            rival(name)
        except BenchError as error:
            loudly(f"{name} will be missing from the tables: {error}")
    return 0


def tools() -> None:
    """Debian's packages, installed where we may; raises BenchError that names them."""
    try:
        find_tools(*TOOLS)
    except BenchError as missing:
        command = str(missing).rpartition(": ")[2].split()
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
        print(f"{missing}: we are root, so it is done now", flush=True)
        with TemporaryDirectory() as folder:
            log = Path(folder, "log")
            _carry_out(["apt-get", "update"], log)
            _carry_out([*command, "--yes", "--no-install-recommends"], log)
        find_tools(*TOOLS)


def rival(name: str) -> None:
    """Install a rival unless it is there, as pinned; raises BenchError."""
    pinned, install = (
        (PINS / name / "package-lock.json", _from_npm) if (PINS / name).is_dir() else (PINS / f"{name}.txt", _from_pypi)
    )
    folder, text = RIVALS / name, pinned.read_text()
    stamp = folder / PINNED
    if stamp.is_file() and stamp.read_text() == text:
        return
    print(f"installing {name} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted installation left, or another version
    folder.mkdir(parents=True)
    install(folder, pinned, RIVALS / f"{name}.log")
    stamp.write_text(text)


def _from_pypi(folder: Path, pinned: Path, log: Path) -> None:
    _carry_out([sys.executable, "-m", "venv", "--without-pip", str(folder)], log)  # which Debian's may lack
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder)]
    _carry_out([*pip, "install", "-r", str(pinned)], log)


def _from_npm(folder: Path, pinned: Path, log: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise BenchError("it needs Node.js: apt-get install nodejs npm")
    for name in ("package.json", pinned.name):
        shutil.copy(pinned.with_name(name), folder)
    _carry_out([npm, "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"], log)


def _carry_out(argv: Sequence[str], log: Path) -> None:
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=LONGEST, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"{error}; see {log}", 2) from error
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise BenchError(
            f"`{' '.join(argv[:3])} …` failed with exit code {done.returncode}; the end of {log}:\n{tail}", 2
        )


if __name__ == "__main__":
    sys.exit(main())

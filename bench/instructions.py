"""How many instructions the request path's pure functions take, by callgrind: counts that no busy machine moves.

python -m bench.instructions [--json]
"""

import argparse
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.fleet import find_tools
from bench.hot import CALLS
from bench.plan import BenchError, own_program

TAKES_AT_MOST = 600.0  # seconds; twenty on an idle core
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


class Counts(NamedTuple):
    """Instructions of one call of each function, and what they depend on beside the code."""

    functions: dict[str, int]
    interpreter: dict[str, object]


def counts() -> Counts:
    """Count, and take the loop around the calls off.  Raises BenchError."""
    valgrind = find_tools("valgrind")["valgrind"]
    with TemporaryDirectory() as folder:
        out = Path(folder, "counts")
        command = [valgrind, "--tool=callgrind", "--dump-before=tzset", f"--callgrind-out-file={out}"]
        try:
            run = subprocess.run(
                [*command, *own_program("hot")],
                capture_output=True, text=True, check=False, timeout=TAKES_AT_MOST, cwd=folder,
                env={"PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BenchError(f"counting took longer than {TAKES_AT_MOST:.0f} s") from None
        if run.returncode != 0:
            raise BenchError(f"counting failed:\n{run.stderr[-2000:]}")
        compiled, *names = run.stdout.splitlines()
        # The first dump ends at the first mark; from then on one between a function's marks, one between two functions.
        between = [_total(Path(f"{out}.{2 * number + 2}")) for number in range(len(names))]
    per_call = {name: round((total - between[0]) / CALLS) for name, total in zip(names[1:], between[1:], strict=True)}
    interpreter = {"python": platform.python_version(), "machine": platform.machine(), "compiled": compiled == "True"}
    return Counts(per_call, interpreter)


def _total(dump: Path) -> int:
    try:
        found = _TOTALS.search(dump.read_text(errors="replace"))
    except FileNotFoundError:
        found = None
    if found is None:
        raise BenchError("callgrind has written fewer counts than there are marks")
    return int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="for a machine")
    arguments = parser.parse_args()
    try:
        found = counts()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps({**found.interpreter, "instructions": found.functions}, indent=1))
    else:
        for name, count in found.functions.items():
            print(f"{count:>8,}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Long fuzzing, guided by coverage, and what to do with what it finds.

python -m tests.fuzz run [--seconds 60] [TARGET …]    search; needs atheris (the extra `fuzz`)
python -m tests.fuzz replay TARGET FILE               try one input
python -m tests.fuzz keep TARGET FILE                 make a failing input small and keep it
"""

import argparse
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.corpora import HERE, TARGETS, check_time, keep, kept, load

FOUND = HERE.parents[1] / "build" / "fuzz"  # inputs that led somewhere new; a later run begins with them
LONGEST = 4096
_EXECUTED = re.compile(r"^stat::number_of_executed_units: +(\d+)", re.MULTILINE)
_COVERED = re.compile(r" cov: (\d+) ")


def main(arguments: list[str]) -> int:
    """The command's exit code: 1 where a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--seconds", type=int, default=60, help="for each target")
    run.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; none: all")
    for name in ("replay", "keep"):
        one = commands.add_parser(name)
        one.add_argument("target", choices=TARGETS)
        one.add_argument("file", type=Path)
    explore = commands.add_parser("explore", help="used by `run`: one target in this process")
    explore.add_argument("target", choices=TARGETS)
    explore.add_argument("options", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    logging.getLogger("splitlane").setLevel(logging.CRITICAL)
    match asked.command:
        case "run":
            failed = [name for name in asked.targets or TARGETS if not _search(name, asked.seconds)]
            return int(bool(failed))
        case "replay":
            target, data = load(asked.target), asked.file.read_bytes()
            target.check(data)
            check_time(target, data)
            print("holds all laws")
        case "keep":
            print(keep(asked.target, asked.file.read_bytes()))
        case _:
            _explore(asked.target, asked.options)
    return 0


def _search(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether all laws held."""
    led_on = FOUND / name
    led_on.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        findings, words = Path(folder, "findings"), Path(folder, "words")
        findings.mkdir()
        words.write_text("".join(f'"{_quoted(token)}"\n' for token in load(name).TOKENS))
        options = [
            f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-dict={words}", f"-artifact_prefix={findings}/",
            "-timeout=10", "-print_final_stats=1", str(led_on), str(HERE / "corpus" / name),
        ]  # fmt: skip
        command = [sys.executable, "-m", "tests.fuzz", "explore", name, *options]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        output = ended.stdout + ended.stderr
        executed, covered = _EXECUTED.search(output), _COVERED.findall(output)
        print(f"{name}: {executed[1] if executed else '?'} inputs, {covered[-1] if covered else '?'} edges", flush=True)
        found = sorted(findings.iterdir())
        for path in found:
            if path.name.startswith("slow-unit"):
                print(f"{name}: an input that takes seconds: {path.read_bytes()[:200]!r}")
                continue
            file = keep(name, path.read_bytes()).relative_to(HERE.parents[1])
            print(f"{name}: a law is broken.  Again: python -m tests.fuzz replay {name} {file}")
        if ended.returncode:
            print(output[-3000:])
        return not ended.returncode and not found


def _explore(name: str, options: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris  # noqa: PLC0415 an extra that only this needs

    with atheris.instrument_imports(include=["proxy"]):
        target = load(name)
    for data in kept(name).values():
        target.check(data)
    atheris.Setup([f"fuzz-{name}", *options], target.check)
    atheris.Fuzz()


def _quoted(token: bytes) -> str:
    """A token as libFuzzer's dictionaries spell it."""
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What one run was asked to do, and where things are."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.contenders import Contender

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUN = HERE / "run"  # pid files, logs, temporary files; not in git
RESULTS = HERE / "results"
RIVALS = ROOT / ".rivals"  # a folder for each, not in git
PINNED = ".pinned"  # in a rival's folder: what it was installed from, written last


def own_program(module: str) -> list[str]:
    """How one of this package's programs is started in the run folder.

    The checkout comes last on its path, and on nobody else's: the proxy that is measured is the installed one.
    """
    start = (
        f"import runpy, sys; sys.path.append({str(ROOT)!r}); runpy.run_module('bench.{module}', run_name='__main__')"
    )
    return [sys.executable, "-c", start]


class BenchError(Exception):
    """The run failed; `exit_code` 2 when the machine lacks something, 1 when a measurement broke."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def loudly(text: str) -> None:
    """What must not be overlooked, on standard error."""
    line = "!" * 78
    print(f"\r\x1b[K{line}\n{text}\n{line}" if sys.stderr.isatty() else f"{line}\n{text}\n{line}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy under test has one core to itself; upstream and load generator share the other."""

    proxy: int
    load: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first two cores this process may use."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise BenchError("two cores are needed: one for the proxy, one for upstream and load", 2)
        return cls(allowed[0], allowed[1])


@dataclass(frozen=True, slots=True)
class Plan:
    """One case's numbers.  `say` shows progress; `lost` are rivals that are not, or no longer, in it, and why."""

    contenders: tuple[Contender, ...]
    cores: Cores
    rounds: int
    seconds: int  # of wrk, per round and contender
    streams: int
    chunks: int  # per stream
    interval_ms: int  # between two chunks of a stream
    say: Callable[[str], None]
    lost: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def standing(self) -> tuple[Contender, ...]:
        """The contenders that are still in it."""
        return tuple(contender for contender in self.contenders if contender.name not in self.lost)

    @property
    def rivals(self) -> tuple[str, ...]:
        """The names of those whose failure is their own affair."""
        return tuple(contender.name for contender in self.contenders if contender.rival)

    def order(self, number: int) -> tuple[Contender, ...]:
        """Contenders of round `number`: each round starts with another one, so drift hits all alike."""
        standing = self.standing
        shift = number % len(standing)
        return standing[shift:] + standing[:shift]

    def lose(self, contender: Contender, why: str) -> None:
        """The run goes on without this rival."""
        self.lost[contender.name] = why
        loudly(f"{contender.name} is missing from this run: {why}")

    @contextmanager
    def at_its_own_risk(self, contender: Contender) -> Iterator[None]:
        """What fails inside costs a rival its place; anybody else's failure ends the run."""
        try:
            yield
        except BenchError as error:
            if not contender.rival:
                raise
            self.lose(contender, str(error))

    def notes(self) -> list[str]:
        """What a reader of the table must know of those who are not in it."""
        return [f"{name} is missing: {why.partition(chr(10))[0]}" for name, why in self.lost.items()]

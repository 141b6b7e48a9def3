"""What one run was asked to do, and where things are."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import Contender

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUN = HERE / "run"  # pid files, logs, temporary files; not in git
RESULTS = HERE / "results"


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
    """One case's numbers.  `say` shows progress."""

    contenders: tuple[Contender, ...]
    cores: Cores
    rounds: int
    seconds: int  # of wrk, per round and contender
    streams: int
    chunks: int  # per stream
    interval_ms: int  # between two chunks of a stream
    say: Callable[[str], None]

    def order(self, number: int) -> tuple[Contender, ...]:
        """Contenders of round `number`: each round starts with another one, so drift hits all alike."""
        shift = number % len(self.contenders)
        return self.contenders[shift:] + self.contenders[:shift]

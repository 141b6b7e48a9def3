"""The kept inputs of each target, and how a new one is made small and kept."""

import importlib
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Protocol, cast

HERE = Path(__file__).parent
TARGETS = tuple(sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py")))
# An input, repeated up to this size, may take so long: hundreds of times what it takes, and far less than a square.
LARGE = 32 * 1024
PATIENCE = 2.0  # seconds of processor time


class Target(Protocol):
    """What a module of `targets` is."""

    TOKENS: tuple[bytes, ...]

    def check(self, data: bytes) -> None:
        """Raises where a law is broken."""


def load(name: str) -> Target:
    """The target of that name; ImportError where there is none."""
    return cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}"))


def kept(name: str) -> dict[str, bytes]:
    """A target's kept inputs by file name."""
    return {path.name: path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())}


def large(data: bytes) -> bytes:
    """The input over and over, up to `LARGE` bytes."""
    return (data * (LARGE // max(1, len(data)) + 1))[:LARGE]


def check_time(target: Target, data: bytes) -> None:
    """AssertionError where the input, repeated, takes longer than something linear does."""
    started = time.process_time()
    target.check(large(data))
    assert time.process_time() - started < PATIENCE, "slower than linear"


def failure(check: Callable[[bytes], None], data: bytes) -> str:
    """How an input fails: the error's type and the line that raised it; empty: it does not."""
    try:
        check(data)
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        return f"{type(error).__name__} in line {0 if trace is None else trace.tb_lineno}"
    return ""


def smaller(data: bytes, still_fails: Callable[[bytes], bool]) -> bytes:
    """The input without every piece that its failure does not need; halves first, single bytes last."""
    size = len(data) // 2
    while size:
        start = 0
        while start < len(data):
            without = data[:start] + data[start + size :]
            if still_fails(without):
                data = without
            else:
                start += size
        size //= 2
    return data


def keep(name: str, data: bytes) -> Path:
    """Make a failing input small and keep it; the file."""
    check = load(name).check
    how = failure(check, data)
    small = smaller(data, lambda each: failure(check, each) == how) if how else data
    path = HERE / "corpus" / name / f"found_{blake2b(small, digest_size=6).hexdigest()}"
    path.write_bytes(small)
    return path


def all_kept() -> Iterator[tuple[str, str, bytes]]:
    """Target, file name and bytes of every kept input."""
    for name in TARGETS:
        for file, data in kept(name).items():
            yield name, file, data

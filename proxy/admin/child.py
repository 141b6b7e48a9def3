"""Our own command line, run as a process of its own: the event loop only waits for it."""

import asyncio
import sys
from collections.abc import Sequence
from typing import NamedTuple

from proxy.ledger.keeper import FLAGS

MOST_COMPLAINT = 4096  # bytes of what it says on standard error


class Ended(NamedTuple):
    """What a process left."""

    code: int
    output: bytes  # one byte more than was allowed, where there was more
    complaint: bytes

    @property
    def last_words(self) -> str:
        """The last line of its complaint; empty where it said nothing."""
        lines = self.complaint.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


async def run(program: str, argv: Sequence[str], most: int) -> Ended:
    """Run Python to its end, which a cancellation makes sure of; raises OSError where it does not start.

    `program`: its source, with our own module path as `{path!r}`, whatever the working directory holds, and
    `{argv!r}`; `most`: bytes of its output that are kept.
    """
    source = program.format(path=[path for path in sys.path if path], argv=list(argv))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *FLAGS, "-c", source,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        output, complaint = await asyncio.gather(_read(process.stdout, most), _read(process.stderr, MOST_COMPLAINT))
        return Ended(await process.wait(), output, complaint)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """All of it, of which one byte more than `most` is kept."""
    kept = bytearray()
    while piece := await stream.read(1 << 16):
        kept += piece[: most + 1 - len(kept)]
    return bytes(kept)

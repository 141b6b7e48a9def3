"""The proxy's end of a writer process: starts it, feeds it, hears it, ends it."""

import asyncio
import fcntl
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from proxy.ledger.frames import Frames, Message, frame

log = logging.getLogger("splitlane.ledger")

# It gets the proxy's own module path, whatever the working directory holds; `-S` spares it the search.  What this
# interpreter was told holds for it too: `-I`, nothing from the environment or the user's folder; `-B`, no bytecode.
FLAGS = ("-S", *(["-I"] if sys.flags.isolated else []), *(["-B"] if sys.flags.dont_write_bytecode else []))
PROGRAM = "import sys; sys.path[:] = {path!r}; from proxy.ledger.process import main; main()"
# What is in the pipe outlives the proxy, whatever ends it: the writer reads on.
PIPE_SIZE = 1 << 20
# Seconds that a killed one may take to be gone, even where it was not allowed to hurry.
KILLED = 2.0


class Keeper(asyncio.SubprocessProtocol):
    """One process, from its start to its end."""

    def __init__(self, on_message: Callable[[Message], None], on_end: Callable[["Keeper"], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._frames = Frames()
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self._hurries = False
        self.ended = asyncio.Event()

    async def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError: the machine has no room for it."""
        program = PROGRAM.format(path=[path for path in sys.path if path])
        theirs, ours = os.pipe()
        try:
            if sys.platform == "linux":
                with suppress(OSError):  # the machine allows less: a small pipe will do
                    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            # In our own session: in one of its own, Linux would give it half of the machine, whatever its priority.
            await loop.subprocess_exec(lambda: self, sys.executable, *FLAGS, "-c", program, stdin=theirs, stderr=None)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._input, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours, "wb", 0))

    def send(self, message: Message) -> None:
        """Have a message read; one that has ended reads none."""
        if self._input is not None and not self._input.is_closing():
            self._input.write(frame(message))

    async def end(self, within: float) -> None:
        """Tell it that no more comes, and wait for its end; past that, end it."""
        self.hurry()
        if self._input is not None:
            self._input.close()
        if await self._ends(within):
            return
        log.error("the ledger's writer does not end; it is killed")
        if self._transport is not None:
            self._transport.kill()
        await self._ends(KILLED)  # a disk that hangs holds even that up

    def hurry(self) -> None:
        """Have it run beside the requests from now on, not after them; where this process has the right to say so."""
        if self._hurries or self._transport is None or (pid := self._transport.get_pid()) is None:
            return
        self._hurries = True
        with suppress(OSError):
            if sys.platform == "linux":
                os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, pid, 0)

    async def _ends(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: Any) -> None:
        for message in self._frames.feed(bytes(data)):
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._input is not None:
            self._input.close()
        if self._transport is not None:
            self._transport.close()
        self.ended.set()
        self._on_end(self)

"""The parent's end of one worker, from its start to its end."""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.ledger.frames import Message
from proxy.tasks import spawn
from proxy.telemetry.metrics import Plain
from proxy.workers.link import Link
from proxy.workers.sockets import Sockets

# It gets our own module path, whatever the working directory holds, and reads the code that is there now.
PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from proxy.workers.worker import Inherited, main; main(Inherited(*{given!r}))"
)
# Seconds that one may take to say how long its drain takes.
SPOKEN = 10.0


class Child:
    """One worker process."""

    def __init__(self, place: int, on_message: Callable[["Child", Message], None]) -> None:
        self.place = place
        self.counts: Plain = {}  # as told last
        self.families: Plain = {}
        self.took = 0.0  # seconds to tell them
        self.leaves = False  # it was asked to end
        self.started = 0.0  # loop time at which it was ready
        self.ready = asyncio.Event()
        self.accepting = asyncio.Event()
        self.leading = asyncio.Event()
        self.ended = asyncio.Event()
        self._on_message = on_message
        self._link = Link(self._hear, lambda: None)
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._late = 0.0  # loop time; when it is to have ended
        self._hurries = False
        self.send = self._link.send

    def __str__(self) -> str:
        pid = "not started" if self._process is None else f"process {self._process.pid}"
        return f"worker {self.place + 1} ({pid})"

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal's number; None: it runs, or never did."""
        return None if self._process is None else self._process.returncode

    async def start(self, policy: Path, sockets: Sockets, lock: int, on_end: Callable[["Child"], None]) -> None:
        """Raises OSError: the machine has no room for it."""
        ours, theirs = socket.socketpair()
        places = tuple(tuple(each.fileno() for each in place) for place in sockets.places)
        admin = tuple(each.fileno() for each in sockets.admin)
        given = (str(policy), theirs.fileno(), lock, places, admin)
        program = PROGRAM.format(path=[path for path in sys.path if path], given=given)
        passed = (theirs.fileno(), lock, *admin, *(each for place in places for each in place))
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-S", "-c", program, stdin=asyncio.subprocess.DEVNULL, pass_fds=passed
                )
            except BaseException:
                ours.close()
                raise
        await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=ours)
        spawn(self._await_end(on_end), str(self))

    async def count(self, number: int) -> None:
        """Have it say what it has counted."""
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self.send("count", number)
        try:
            await answer
        finally:
            del self._answers[number]

    async def end(self, *orders: str) -> None:
        """Ask it to end, and wait for that; past the time that it says, end it."""
        loop = asyncio.get_running_loop()
        self.leaves = True
        self._late = loop.time() + SPOKEN
        for order in orders:
            self.send(order)
        while not self.ended.is_set():
            if loop.time() >= self._late:
                self.kill()
            try:
                async with asyncio.timeout_at(max(self._late, loop.time() + 0.1)):
                    await self.ended.wait()
            except TimeoutError:
                continue

    def hurry(self, within: float) -> None:
        """Have it end at once."""
        self._hurries = True
        self._late = asyncio.get_running_loop().time() + within
        self.send("hurry")

    def kill(self) -> None:
        """End it, if need be."""
        self.leaves = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _await_end(self, on_end: Callable[["Child"], None]) -> None:
        assert self._process is not None
        await self._process.wait()
        await self._link.ended.wait()  # all that it said is heard
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        self.ended.set()
        on_end(self)

    def _hear(self, message: Message) -> None:
        match message:
            case ("ready", _):
                self.started = asyncio.get_running_loop().time()
                self.ready.set()
            case ("accepting",):
                self.accepting.set()
            case ("leading",):
                self.leading.set()
            case ("draining", float(seconds) | int(seconds)):
                if not self._hurries:
                    self._late = asyncio.get_running_loop().time() + seconds
            case ("counts", int(number), dict(counts), dict(families), float(took)):
                self.counts, self.families, self.took = counts, families, took
                answer = self._answers.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(None)
            case ("ask", _, dict(counts), dict(families), float(took)):
                self.counts, self.families, self.took = counts, families, took
                self._on_message(self, message)
            case _:
                self._on_message(self, message)


async def first_of(*events: asyncio.Event) -> None:
    """Wait for one of them."""
    waits = [spawn(event.wait(), "event") for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def told_last(children: Sequence[Child]) -> float:
    """The longest time, in seconds, that one of them took to tell what it has counted."""
    return max((child.took for child in children), default=0.0)

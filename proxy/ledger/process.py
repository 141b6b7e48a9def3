"""The writer as a process of its own: what it costs is never the event loop's, not even the interpreter's lock.

It is fed through standard input and answers on standard output, in frames; what it has to say to people
goes to standard error, as the proxy's own words do.  The end of its input is the end of the proxy, asked
for or not: what has come until then is written.
"""

import logging
import os
import select
import signal
import sys
from collections import deque
from contextlib import suppress

from proxy.ledger.batch import Batch, Kept
from proxy.ledger.feedback import Joined
from proxy.ledger.frames import Frames, Message, frame
from proxy.ledger.row import unpack
from proxy.ledger.standing import Standing
from proxy.ledger.writer import Spent, Writer
from proxy.policy.snapshot import StorePolicy
from proxy.telemetry.log import configure
from proxy.words import Brake

log = logging.getLogger("splitlane.ledger")

READ = 1 << 20  # bytes at once
IN, OUT = 0, 1


class Pipe:
    """Messages from the proxy."""

    def __init__(self) -> None:
        self.ended = False
        self._frames = Frames()
        self._messages: deque[Message] = deque()

    def first(self) -> Message | None:
        """The first message, which says what to do; None: the proxy has ended already."""
        while not self._messages and not self.ended:
            self._read()
        return self._messages.popleft() if self._messages else None

    def take(self) -> Batch | None:
        while not self.ended and select.select([IN], [], [], 0)[0] and len(self._messages) < 2:
            self._read()
        if not self._messages:
            return None
        name, blocks, feedback, commands = self._messages.popleft()
        return Batch(name, [row for block in blocks for row in unpack(block)], feedback, commands)

    def wait(self, seconds: float) -> None:
        if not self._messages and not self.ended:
            select.select([IN], [], [], seconds)

    def rest(self, seconds: float) -> None:
        hung_up = select.poll()
        hung_up.register(IN, 0)
        if hung_up.poll(seconds * 1000):
            while not self.ended:
                self._read()

    def _read(self) -> None:
        data = os.read(IN, READ)
        self.ended = not data
        self._messages += self._frames.feed(data)


class Answers:
    """What the proxy is told; one that is gone no longer needs to know."""

    def opened(self, key: bytes) -> None:
        give_way()
        self._say("opened", key)

    def written(self, batch: Batch, kept: Kept) -> None:
        self._say("written", batch.id, kept.rows, kept.feedback)

    def spent(self, spent: Spent) -> None:
        self._say("spent", dict(spent))

    def joined(self, joined: Joined) -> None:
        self._say("joined", joined.joined, joined.unknown)

    def braked(self, brakes: dict[str, Brake]) -> None:
        self._say("braked", [tuple(brake) for brake in brakes.values()])

    def stands(self, standing: Standing) -> None:
        self._say("stands", *standing)

    def away(self) -> None:
        self._say("away")

    def _say(self, *message: object) -> None:
        left = memoryview(frame(message))
        try:
            while left:
                left = left[os.write(OUT, left) :]
        except BrokenPipeError:
            log.debug("the proxy is gone")


def give_way() -> None:
    """Run when nobody else wants to: where there is one core, requests come first, and the proxy's queue holds."""
    os.nice(19)
    if sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it: the lowest priority will do
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Write what comes until its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end is the proxy's to tell
    pipe = Pipe()
    first = pipe.first()
    if first is None:
        sys.exit(0)
    url, retention, unit_key, proxy, level = first
    configure(level)
    Writer(StorePolicy(url, retention, unit_key), proxy, pipe, Answers()).run()
    logging.shutdown()
    os._exit(0)  # the interpreter's own end is a long way for who runs when nobody else wants to

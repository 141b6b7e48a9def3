"""Lines for standard error, written by a thread of its own: who logs never waits for who reads.

- `put` takes a line or drops it, at once; it never blocks and never raises.
- What waits is bounded in bytes, each kind of lines by itself: a flood of one never costs another.
- Every line is either written or dropped, and counted as such; lines never mix, and those of a kind stay in order.
- Workers that share standard error share a lock file too: a large write to a pipe is not one step.
- Standard error may be a full pipe, a closed one, or none: lines are dropped, and nothing else happens.
"""

import contextlib
import fcntl
import os
import select
import sys
import threading
import time
from collections.abc import Callable

# Under load, lines that come within this many seconds are written together: each write is a system
# call, and a thread that wakes up takes the interpreter away from the event loop.
GATHER = 0.1
PATIENCE = 1.0  # … and lines of patient channels
# How long a descriptor that does not block may be unwilling before it is asked again, milliseconds.
UNWILLING = 1000


class Channel:
    """One kind of lines, and what became of them."""

    __slots__ = ("dropped", "limit", "lines", "patient", "waiting", "written")

    def __init__(self, limit: int, *, patient: bool = False) -> None:
        """`limit`: bytes that may wait.  `patient`: up to a quarter of them may do so for `PATIENCE`."""
        self.limit = limit
        self.patient = patient
        self.lines: list[bytes] = []  # that nobody writes yet
        self.waiting = 0  # bytes, with those that are being written
        self.written = 0  # lines
        self.dropped = 0


class LineWriter:
    """Writes the lines of all channels to one descriptor."""

    def __init__(self, descriptor: Callable[[], int]) -> None:
        """`descriptor` is asked before each write; raises OSError or ValueError where there is none."""
        self._descriptor = descriptor
        self._changed = threading.Condition()  # reentrant: a finalizer may log in the middle of `put`
        self._due: list[Channel] = []  # those with lines
        self._urgent = False  # one of them is not patient, or not any more
        self._resting = False  # only what is urgent wakes the thread
        self._writing = False
        self._thread: threading.Thread | None = None
        self._lock: int | None = None

    def share(self, lock: int) -> None:
        """Write while nobody else does who has the lock file open, as the descriptor `lock`."""
        self._lock = lock

    def put(self, channel: Channel, *lines: bytes) -> None:
        """Have lines, each with its newline, written some time; drop those for which too much waits."""
        with self._changed:
            for line in lines:
                if channel.waiting + len(line) > channel.limit:
                    channel.dropped += 1
                else:
                    channel.waiting += len(line)
                    channel.lines.append(line)
            if not channel.lines:
                return
            if channel not in self._due:
                # What may wait has: before the end's last words come the lines of the requests before it.
                self._due.insert(0 if channel.patient else len(self._due), channel)
            if not channel.patient or channel.waiting > channel.limit // 4:
                self._urgent = True
            if self._urgent or not self._resting:
                self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="standard error", daemon=True)
                self._thread.start()

    def flush(self, within: float) -> None:
        """Wait until all is written that was put before, at most `within` seconds."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._due and not self._writing, within)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due)
                self._writing = True
                self._urgent = False
                due, self._due = self._due, []
                batches = []
                for channel in due:
                    batches.append((channel, channel.lines))
                    channel.lines = []
            for channel, lines in batches:
                data = b"".join(lines)
                written = self._write(data)
                with self._changed:
                    channel.waiting -= len(data)
                    if written:
                        channel.written += len(lines)
                    else:
                        channel.dropped += len(lines)
            with self._changed:
                self._writing = False
                self._changed.notify_all()
            time.sleep(GATHER)
            with self._changed:
                self._resting = True
                self._changed.wait_for(lambda: self._urgent, PATIENCE - GATHER)
                self._resting = False

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes; False where it cannot be."""
        left = memoryview(data)
        try:
            descriptor = self._descriptor()
            if self._lock is not None:
                fcntl.lockf(self._lock, fcntl.LOCK_EX)  # a process's, and gone with it, whatever ends it
            while left:
                try:
                    left = left[os.write(descriptor, left) :]
                except BlockingIOError:  # somebody else who has it too made it so
                    poll = select.poll()
                    poll.register(descriptor, select.POLLOUT)
                    poll.poll(UNWILLING)
        except (OSError, ValueError):
            return False
        finally:
            if self._lock is not None:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return True


def _standard_error() -> int:
    """Not simply 2: where a process starts without standard error, 2 becomes something else."""
    if sys.stderr is None:
        raise OSError("there is no standard error")
    return sys.stderr.fileno()


# The process's.  Its thread starts with the first line.
standard_error = LineWriter(_standard_error)

"""Chat requests of any size, and a blocking connection that sends them: a client whose own cost is small and plain.

`open_loop` sends at a fixed rate and takes each latency from the moment at which the request was due, sent or
not: a server that stalls pays for every request that had to wait.  It blocks in `select`, which knows
microseconds, where the timers of an event loop know milliseconds.
"""

import contextlib
import gc
import json
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.plan import BenchError

SMALL = 1500  # bytes of the usual body
USERS = 200
PATIENCE = 20.0  # seconds without a byte, before an answer counts as lost

_WORDS = "Please summarise the following paragraph about contract law in plain language. "
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_POLICY = re.compile(rb"\r\nx-splitlane-policy: *(\w+)", re.IGNORECASE)


def chat(user: int, size: int = SMALL, agent: str = "legal_agent") -> bytes:
    """A request, head and body; `size` is that of the body, in bytes."""
    messages = [{"role": "system", "content": "You are the legal agent."}, {"role": "user", "content": ""}]
    body = {"model": agent, "messages": messages, "temperature": 0.7, "max_tokens": 256, "user": f"user-{user}"}
    missing = size - len(json.dumps(body))
    if missing < 0:
        raise ValueError(f"a body has at least {size - missing} bytes, not {size}")
    messages[1]["content"] = (_WORDS * (missing // len(_WORDS) + 1))[:missing]
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer sk-bench\r\nX-Agent: {agent}\r\nX-User-Id: user-{user}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    return (head + json.dumps(body)).encode()


class Connection:
    """One connection, one request at a time; raises BenchError on anything but a whole answer of status 200."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.policy = b""  # that answered last, where it said so
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = bytearray()
        self._end = 0  # of the answer, once its head is there

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: bytes) -> None:
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise BenchError(f"{self.name} did not take the request: {error!r}") from error

    def read(self) -> bool:
        """One read; whether the answer is complete."""
        got = self._got
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            raise BenchError(f"{self.name} did not answer: {error!r}") from error
        if not data:
            raise BenchError(f"{self.name} closed the connection after {bytes(got[:300])!r}")
        got += data
        if not self._end and (head := got.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(got, 0, head)
            if not got.startswith(b"HTTP/1.1 200 ") or length is None:
                raise BenchError(f"{self.name} answered {bytes(got[:500])!r}")
            self._end = head + 4 + int(length[1])
            said = _POLICY.search(got, 0, head)
            self.policy = said[1] if said else b""
        if not self._end or len(got) < self._end:
            return False
        got.clear()
        self._end = 0
        return True

    def ask(self, request: bytes) -> None:
        """Send and wait for the whole answer."""
        self.send(request)
        while not self.read():
            pass

    def close(self) -> None:
        self._socket.close()


class Answered(NamedTuple):
    """One request of an open loop; all of it on the monotonic clock, in nanoseconds."""

    due: int
    late: int  # how long after that it was sent
    latency: int  # from `due` to the whole answer
    policy: bytes


def open_loop(
    name: str,
    port: int,
    *,
    requests: Sequence[bytes],
    rate: int,
    seconds: float,
    connections: int = 8,
    halfway: Callable[[], None] | None = None,
) -> list[Answered]:
    """`rate` requests a second, in turn; answers in the order of their end.  `halfway` is called once, in between.

    Raises BenchError on the first that fails.
    """
    total, interval = int(rate * seconds), 1_000_000_000 // rate
    idle = deque(Connection(name, port) for _ in range(connections))
    everyone = list(idle)
    busy: dict[Connection, tuple[int, int]] = {}  # when it was due, when it was sent
    answered: list[Answered] = []
    number = 0  # of the next request
    with contextlib.ExitStack() as stack:
        for each in everyone:
            stack.callback(each.close)
        begin = time.monotonic_ns() + interval
        while len(answered) < total:
            now = time.monotonic_ns()
            while number < total and idle and begin + number * interval <= now:
                connection, sent = idle.pop(), time.monotonic_ns()
                connection.send(requests[number % len(requests)])
                busy[connection] = begin + number * interval, sent
                number += 1
                if halfway is not None and number == total // 2:
                    halfway()
            next_due = begin + number * interval - time.monotonic_ns() if number < total and idle else 10**9
            readable, _, _ = select.select(busy, [], [], max(0, next_due) / 1e9)
            for connection in readable:
                if connection.read():
                    due, sent = busy.pop(connection)
                    answered.append(Answered(due, sent - due, time.monotonic_ns() - due, connection.policy))
                    idle.append(connection)
            if busy and time.monotonic_ns() - min(sent for _, sent in busy.values()) > PATIENCE * 1e9:
                raise BenchError(f"{name} has not answered for {PATIENCE:.0f} s")
    return answered


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process on `core`, with timers as exact as the kernel has them, and no garbage collector."""
    before = os.sched_getaffinity(0)
    slack = Path("/proc/self/timerslack_ns")
    slack_before = slack.read_text()
    os.sched_setaffinity(0, {core})
    slack.write_text("1")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        slack.write_text(slack_before)
        os.sched_setaffinity(0, before)

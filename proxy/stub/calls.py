"""The log of what the stub received."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.stub.faults import NO_FAULT, Fault


@dataclass(slots=True)
class CallState:
    """How one call has gone so far. Times are Unix seconds."""

    finished: bool = False  # the whole answer was handed to the socket
    ended_at: float | None = None  # the stub stopped working on it, finished or not
    client_gone_at: float | None = None  # the client closed the connection before the answer was finished
    chunks: int = 0  # pieces of body written


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived: bytes unchanged, headers in their order and case."""

    number: int  # from 1, over all connections
    time: float  # Unix seconds, when the request was complete
    connection: int  # from 1, in the order of accept
    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    model: str = ""  # empty: the request names none
    stream: bool = False
    fault: Fault = NO_FAULT
    state: CallState = field(default_factory=CallState, compare=False)

    @property
    def finished(self) -> bool:
        """Tell whether the whole answer was handed to the socket."""
        return self.state.finished

    @property
    def client_gone_at(self) -> float | None:
        """Unix seconds at which the client left before the answer was finished; None: it did not."""
        return self.state.client_gone_at

    @property
    def path(self) -> str:
        """The target without its query, for comparing."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def header(self, name: str) -> str | None:
        """Return the first header of that name, in any case."""
        return next(iter(self.all_headers(name)), None)

    def all_headers(self, name: str) -> list[str]:
        """Return every header of that name, in any case, in their order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def json(self) -> Any:
        """Return the body, parsed.

        Raises:
            ValueError: it is not JSON.

        """
        return json.loads(self.body)

    def summary(self) -> dict[str, Any]:
        """Return the call as `GET /stub/calls` shows it."""
        return {
            "number": self.number,
            "time": self.time,
            "connection": self.connection,
            "method": self.method,
            "target": self.target.decode("latin-1"),
            "headers": [[key.decode("latin-1"), value.decode("latin-1")] for key, value in self.headers],
            "body": self.body.decode("utf-8", "replace"),
            "model": self.model,
            "stream": self.stream,
            "fault": str(self.fault),
            "finished": self.state.finished,
            "ended_at": self.state.ended_at,
            "client_gone_at": self.state.client_gone_at,
            "chunks": self.state.chunks,
        }


class CallLog:
    """A bounded list of calls: the oldest are forgotten first."""

    def __init__(self, max_calls: int, max_bytes: int) -> None:
        self.calls: list[Call] = []
        self.received = 0  # calls ever, forgotten ones too
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._bytes = 0

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def add(self, call: Call) -> None:
        """Keep a call, and forget old ones until the log is within its bounds."""
        self.received += 1
        if not self.calls:
            self._bytes = 0  # whoever holds the list may clear it
        self.calls.append(call)
        self._bytes += len(call.body)
        while len(self.calls) > self._max_calls or (self._bytes > self._max_bytes and len(self.calls) > 1):
            self._bytes -= len(self.calls.pop(0).body)

"""Rows on their way from the requests to the writer, within bounds.  Pure.

`enqueued = written + dropped + queued` at every moment.  What does not fit is dropped and counted; it
never waits.
"""

from collections import deque
from collections.abc import Callable

from proxy.ledger.row import pack
from proxy.words import Record

# At 20,000 requests a second, ten seconds; in a sidecar's usual traffic, the better part of an hour.
MAX_ROWS = 200_000
MAX_BYTES = 64 * 1024 * 1024


class Queue:
    """Rows as bytes."""

    __slots__ = ("_held", "_rows", "enqueued", "lost", "max_bytes", "max_rows", "refused", "written")

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._rows: deque[bytes] = deque()
        self._held = 0  # bytes of what is still here
        self.enqueued = 0
        self.refused = 0  # there was no room
        self.written = 0
        self.lost = 0  # the store would not take them, or was gone at the end

    @property
    def dropped(self) -> int:
        """Rows that are not in the store and never will be."""
        return self.refused + self.lost

    @property
    def queued(self) -> int:
        """Rows that wait, those that are being written among them."""
        return self.enqueued - self.written - self.dropped

    @property
    def size(self) -> int:
        """Bytes of the rows that wait."""
        return self._held

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: bytes) -> int:
        """Add a row, or drop it; how many rows there are."""
        self.enqueued += 1
        rows = self._rows
        size = len(row)
        if len(rows) >= self.max_rows or self._held + size > self.max_bytes:
            self.refused += 1
        else:
            self._held += size
            rows.append(row)
        return len(rows)

    def take(self, most: int) -> list[bytes]:
        """The oldest rows, which from now on are the taker's to write or to lose."""
        rows = self._rows
        taken = [rows.popleft() for _ in range(min(most, len(rows)))]
        self._held -= sum(map(len, taken))
        return taken


class Packer:
    """Puts records into a queue: the part of the ledger that every request pays for."""

    __slots__ = ("_full", "_queue", "_whole")

    def __init__(self, queue: Queue, whole: int, full: Callable[[], None]) -> None:
        """`full` is called whenever there are `whole` rows or more."""
        self._queue = queue
        self._whole = whole
        self._full = full

    def settle(self, record: Record) -> None:
        """Keep a record; where there is no room, it is counted as dropped."""
        if self._queue.put(pack(record)) >= self._whole:
            self._full()

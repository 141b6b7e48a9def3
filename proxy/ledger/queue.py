"""Rows on their way from the event loop to the writer's thread, within bounds.

The loop only ever puts, the writer only ever takes, and each counts for itself: no lock, and
`enqueued = written + dropped + queued` at every moment.  What does not fit is dropped and counted; it
never waits.
"""

from collections import deque
from typing import Generic, TypeVar

from proxy.ledger.row import Row

# At 20,000 requests a second, ten seconds; in a sidecar's usual traffic, the better part of an hour.
MAX_ROWS = 200_000
MAX_BYTES = 256 * 1024 * 1024
MAX_FEEDBACK = 20_000


T = TypeVar("T")


class Queue(Generic[T]):
    """Things with the bytes they take."""

    __slots__ = ("_bytes_in", "_bytes_out", "_rows", "enqueued", "lost", "max_bytes", "max_rows", "refused", "written")

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._rows: deque[tuple[T, int]] = deque()
        self._bytes_in = 0
        self.enqueued = 0
        self.refused = 0  # there was no room
        # The writer's own:
        self._bytes_out = 0
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
        return self._bytes_in - self._bytes_out

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: T, size: int) -> None:
        """Add a row of so many bytes, or drop it."""
        self.enqueued += 1
        if len(self._rows) >= self.max_rows or self._bytes_in - self._bytes_out + size > self.max_bytes:
            self.refused += 1
            return
        self._bytes_in += size
        self._rows.append((row, size))

    def take(self, most: int) -> list[T]:
        """The oldest rows, which from now on are the writer's to write or to lose."""
        rows = self._rows
        taken = [rows.popleft() for _ in range(min(most, len(rows)))]
        self._bytes_out += sum([size for _, size in taken])
        return [row for row, _ in taken]


class Waiting:
    """All that waits for the writer, and what has become of the feedback."""

    __slots__ = ("feedback", "joined", "records", "unknown")

    def __init__(self) -> None:
        self.records: Queue[Row] = Queue()
        self.feedback: Queue[bytes] = Queue(max_rows=MAX_FEEDBACK)
        # The writer's own:
        self.joined = 0  # found its request
        self.unknown = 0  # waited in vain

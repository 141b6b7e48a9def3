"""Rows on their way from the requests to the writer, within bounds.  Pure.

`enqueued = written + dropped + queued` at every moment.  What does not fit is dropped and counted; it
never waits.
"""

from collections import deque
from typing import Generic, TypeVar

# At 20,000 requests a second, ten seconds; in a sidecar's usual traffic, the better part of an hour.
MAX_ROWS = 200_000
MAX_BYTES = 256 * 1024 * 1024


T = TypeVar("T")


class Queue(Generic[T]):
    """Things with the bytes they take."""

    __slots__ = ("_held", "_rows", "enqueued", "lost", "max_bytes", "max_rows", "refused", "written")

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._rows: deque[tuple[T, int]] = deque()
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

    def put(self, row: T, size: int) -> None:
        """Add a row of so many bytes, or drop it."""
        self.enqueued += 1
        if len(self._rows) >= self.max_rows or self._held + size > self.max_bytes:
            self.refused += 1
            return
        self._held += size
        self._rows.append((row, size))

    def take(self, most: int) -> list[T]:
        """The oldest rows, which from now on are the taker's to write or to lose."""
        rows = self._rows
        taken = [rows.popleft() for _ in range(min(most, len(rows)))]
        self._held -= sum([size for _, size in taken])
        return [row for row, _ in taken]

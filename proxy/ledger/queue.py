"""Rows on their way from the requests to the writer, within bounds.  Pure.

They come and go in blocks: bytes that stand for one row or several.

`enqueued = written + dropped + queued` at every moment.  What does not fit is dropped and counted; it
never waits.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from proxy.ledger.row import Pack
from proxy.words import Record

# At 20,000 requests a second, ten seconds; in a sidecar's usual traffic, the better part of an hour.
MAX_ROWS: Final = 200_000
MAX_BYTES: Final = 64 * 1024 * 1024
# Rows in a block: they share what they have in common.
PACKED: Final = 128


class Queue:
    """Blocks of rows."""

    __slots__ = ("_blocks", "_held", "_rows", "enqueued", "lost", "max_bytes", "max_rows", "refused", "written")

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._blocks: deque[tuple[bytes, int]] = deque()  # … and how many rows each is
        self._rows = 0  # that are still here
        self._held = 0  # bytes of them
        # All in rows:
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
        return self._rows

    def put(self, block: bytes, rows: int = 1) -> int:
        """Add a block of `rows`, or drop it; how many rows there are."""
        self.enqueued += rows
        size = len(block)
        if self._rows + rows > self.max_rows or self._held + size > self.max_bytes:
            self.refused += rows
        else:
            self._rows += rows
            self._held += size
            self._blocks.append((block, rows))
        return self._rows

    def take(self, most: int) -> tuple[list[bytes], int]:
        """The oldest blocks, of `most` rows or of one block, and how many rows they are.

        From now on they are the taker's to write or to lose.
        """
        blocks = self._blocks
        taken: list[bytes] = []
        number = 0
        while blocks and (not taken or number + blocks[0][1] <= most):
            block, rows = blocks.popleft()
            taken.append(block)
            number += rows
            self._held -= len(block)
        self._rows -= number
        return taken, number


class Packer:
    """Puts records into a queue: the part of the ledger that every request pays for."""

    __slots__ = ("_full", "_pack", "_queue", "_whole")

    def __init__(self, queue: Queue, whole: int, full: Callable[[], None]) -> None:
        """`full` is called whenever there are `whole` rows or more."""
        self._queue = queue
        self._whole = whole
        self._full = full
        self._pack = Pack()

    def take(self, records: Sequence[Record]) -> None:
        """Keep records."""
        self._pack.add(records)
        if self._pack.rows >= PACKED:
            self.close()

    def close(self) -> None:
        """Put what was kept into the queue; where there is no room, it is counted as dropped."""
        rows = self._pack.rows
        if rows and self._queue.put(self._pack.close(), rows) >= self._whole:
            self._full()

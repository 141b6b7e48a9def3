"""The queue's laws: bounded, and `enqueued = written + dropped + queued` at every moment."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.ledger.queue import Queue


class QueueMachine(RuleBasedStateMachine):
    """The loop puts, the writer takes, writes or loses."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(max_rows=8, max_bytes=100)
        self.waiting: list[tuple[bytes, int]] = []
        self.taken = 0

    def rows(self) -> int:
        return sum(rows for _, rows in self.waiting)

    @rule(block=st.binary(min_size=0, max_size=40), rows=st.integers(1, 4))
    def put(self, block: bytes, rows: int) -> None:
        fits = self.rows() + rows <= 8 and sum(len(each) for each, _ in self.waiting) + len(block) <= 100
        before = self.queue.dropped
        assert self.queue.put(block, rows) == self.rows() + rows * fits
        assert self.queue.dropped == before + rows * (not fits)
        if fits:
            self.waiting.append((block, rows))

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        blocks, rows = self.queue.take(most)
        taken = self.waiting[: len(blocks)]
        assert (blocks, rows) == ([block for block, _ in taken], sum(rows for _, rows in taken)), "the oldest first"
        del self.waiting[: len(blocks)]
        assert rows <= most or len(blocks) == 1
        assert not self.waiting or rows + self.waiting[0][1] > most, "and no fewer than may be"
        self.taken += rows

    @rule(refused=st.integers(0, 3))
    def settle(self, refused: int) -> None:
        lost = min(refused, self.taken)
        self.queue.lost += lost
        self.queue.written += self.taken - lost
        self.taken = 0

    @invariant()
    def numbers_add_up(self) -> None:
        queue = self.queue
        assert queue.enqueued == queue.written + queue.dropped + queue.queued
        assert queue.queued == self.rows() + self.taken
        assert len(queue) == self.rows()
        assert queue.size == sum(len(block) for block, _ in self.waiting)


TestQueue = QueueMachine.TestCase


@given(st.integers(1, 50))
def test_queue_that_nobody_empties_stays_within_its_bounds(rows: int) -> None:
    queue = Queue(max_rows=10, max_bytes=1000)
    for _ in range(rows):
        queue.put(b"x" * 90)
    assert len(queue) == min(rows, 10)
    assert queue.dropped == max(0, rows - 10)

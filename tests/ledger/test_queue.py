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
        self.waiting: list[bytes] = []
        self.taken: list[bytes] = []

    @rule(row=st.binary(min_size=0, max_size=40))
    def put(self, row: bytes) -> None:
        fits = len(self.waiting) < 8 and sum(map(len, self.waiting)) + len(row) <= 100
        before = self.queue.dropped
        assert self.queue.put(row) == len(self.waiting) + fits
        assert self.queue.dropped == before + (not fits)
        if fits:
            self.waiting.append(row)

    @rule(most=st.integers(0, 5))
    def take(self, most: int) -> None:
        taken = self.queue.take(most)
        assert taken == self.waiting[:most], "the oldest first"
        del self.waiting[:most]
        self.taken += taken

    @rule(refused=st.integers(0, 3))
    def settle(self, refused: int) -> None:
        lost = min(refused, len(self.taken))
        self.queue.lost += lost
        self.queue.written += len(self.taken) - lost
        self.taken.clear()

    @invariant()
    def numbers_add_up(self) -> None:
        queue = self.queue
        assert queue.enqueued == queue.written + queue.dropped + queue.queued
        assert queue.queued == len(self.waiting) + len(self.taken)
        assert len(queue) == len(self.waiting)
        assert queue.size == sum(map(len, self.waiting))


TestQueue = QueueMachine.TestCase


@given(st.integers(1, 50))
def test_queue_that_nobody_empties_stays_within_its_bounds(rows: int) -> None:
    queue = Queue(max_rows=10, max_bytes=1000)
    for _ in range(rows):
        queue.put(b"x" * 90)
    assert len(queue) == min(rows, 10)
    assert queue.dropped == max(0, rows - 10)

"""Lines for standard error, whoever reads it, and how: real pipes, full, closed and slow."""

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import proxy.telemetry.lines as lines_module
from proxy.telemetry.lines import GATHER, Channel, LineWriter

LINE = b"x" * 99 + b"\n"


class Pipe:
    """A pipe and a writer to it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.writer = LineWriter(lambda: self.write_end)

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        data = b""
        while len(data) < size:
            data += os.read(self.read_end, size - len(data))
        return data

    def fill(self) -> None:
        """Until nothing more goes in."""
        os.set_blocking(self.write_end, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.write_end, b"." * 4096)
        os.set_blocking(self.write_end, True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    with suppress(OSError):
        os.close(pipe.read_end)  # ends a write that is blocked
    pipe.writer.flush(5)
    os.close(pipe.write_end)


def test_lines_come_out_whole_and_in_order(pipe: Pipe) -> None:
    channel = Channel(1 << 20)
    lines = [b"%d\n" % number for number in range(2000)]
    for line in lines:
        pipe.writer.put(channel, line)
    assert pipe.read(sum(map(len, lines))) == b"".join(lines)
    pipe.writer.flush(5)
    assert (channel.written, channel.dropped, channel.waiting) == (2000, 0, 0)


def test_line_after_silence_is_written_at_once(pipe: Pipe) -> None:
    channel = Channel(1 << 20)
    for _ in range(3):
        started = time.perf_counter()
        pipe.writer.put(channel, LINE)
        pipe.read(len(LINE))
        assert time.perf_counter() - started < 0.5
        time.sleep(0.05)


@pytest.fixture
def endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "PATIENCE", 60.0)


@pytest.mark.usefixtures("endless_patience")
def test_patient_lines_wait_for_one_that_is_not(pipe: Pipe) -> None:
    patient, other = Channel(1 << 20, patient=True), Channel(1 << 20)
    pipe.writer.put(patient, b"after silence\n")
    assert pipe.read(14) == b"after silence\n"
    pipe.writer.put(patient, b"one\n", b"two\n")
    assert not select.select([pipe.read_end], [], [], 3 * GATHER)[0]
    pipe.writer.put(other, b"three\n")
    assert pipe.read(14) == b"one\ntwo\nthree\n"
    pipe.writer.flush(5)
    assert (patient.written, patient.waiting, other.written) == (3, 0, 1)


@pytest.mark.usefixtures("endless_patience")
def test_patient_lines_are_written_before_last_words(pipe: Pipe) -> None:
    patient, other = Channel(1 << 20, patient=True), Channel(1 << 20)
    pipe.writer.put(other, b"after silence\n")
    assert pipe.read(14) == b"after silence\n"  # what follows is gathered
    pipe.writer.put(other, b"draining\n")
    pipe.writer.put(patient, b"request\n")
    pipe.writer.put(other, b"stopped\n")
    assert pipe.read(25) == b"request\ndraining\nstopped\n"


@pytest.mark.usefixtures("endless_patience")
def test_patient_lines_wait_no_longer_when_there_are_many(pipe: Pipe) -> None:
    channel = Channel(1000, patient=True)
    pipe.writer.put(channel, LINE)
    pipe.read(len(LINE))
    for _ in range(3):
        pipe.writer.put(channel, LINE)
    assert pipe.read(3 * len(LINE)) == LINE * 3


@pytest.mark.usefixtures("endless_patience")
def test_flush_waits_for_no_patience(pipe: Pipe) -> None:
    channel = Channel(1000, patient=True)
    for count in (1, 2):
        pipe.writer.put(channel, LINE)
        pipe.writer.flush(5)
        assert channel.written == count


def test_lines_of_many_threads_never_mix_and_are_all_counted(pipe: Pipe) -> None:
    channels = [Channel(1 << 20), Channel(1 << 20)]

    def put(number: int) -> None:
        for _ in range(200):
            pipe.writer.put(channels[number % 2], b"%d" % number * 50 + b"\n")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    lines = pipe.read(6 * 200 * 51).split(b"\n")
    for thread in threads:
        thread.join()
    assert {len(set(line)) for line in lines if line} == {1}
    pipe.writer.flush(5)
    assert [channel.written for channel in channels] == [600, 600]


def test_full_pipe_costs_lines_and_never_time(pipe: Pipe) -> None:
    pipe.fill()
    channel = Channel(10_000)
    started = time.perf_counter()
    for _ in range(1000):
        pipe.writer.put(channel, LINE)
    pipe.writer.flush(0.05)
    assert time.perf_counter() - started < 0.5
    assert (channel.waiting, channel.dropped, channel.written) == (10_000, 900, 0)


def test_flood_of_one_kind_costs_no_line_of_another(pipe: Pipe) -> None:
    pipe.fill()
    flood, other = Channel(10_000), Channel(10_000)
    for _ in range(1000):
        pipe.writer.put(flood, LINE)
    pipe.writer.put(other, LINE)
    assert (flood.dropped, other.dropped) == (900, 0)


def test_reader_that_comes_back_gets_what_waited_and_what_follows(pipe: Pipe) -> None:
    pipe.fill()
    channel = Channel(10_000)
    for _ in range(200):
        pipe.writer.put(channel, LINE)
    drained = b""
    while not drained.endswith(LINE * 100):
        drained += os.read(pipe.read_end, 1 << 16)
    pipe.writer.flush(5)
    pipe.writer.put(channel, b"after\n")
    assert pipe.read(6) == b"after\n"
    pipe.writer.flush(5)
    assert (channel.written, channel.dropped, channel.waiting) == (101, 100, 0)


def test_closed_pipe_drops_lines_and_counts_them(pipe: Pipe) -> None:
    os.close(pipe.read_end)
    channel = Channel(10_000)
    for count in range(1, 4):
        pipe.writer.put(channel, LINE)
        pipe.writer.flush(5)
        assert (channel.dropped, channel.written, channel.waiting) == (count, 0, 0)


def test_descriptor_that_does_not_block_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    channel = Channel(1 << 20)
    for _ in range(5000):
        pipe.writer.put(channel, LINE)
    time.sleep(0.05)  # by now the pipe is full
    assert pipe.read(5000 * len(LINE)) == LINE * 5000
    pipe.writer.flush(5)
    assert (channel.written, channel.dropped) == (5000, 0)


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_where_there_is_no_standard_error_lines_are_dropped(error: type[Exception]) -> None:
    def none() -> int:
        raise error

    writer, channel = LineWriter(none), Channel(10_000)
    writer.put(channel, LINE)
    writer.flush(5)
    assert (channel.written, channel.dropped, channel.waiting) == (0, 1, 0)

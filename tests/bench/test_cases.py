"""The arithmetic of the benchmark's cases, and its client of a fixed rate against a server that stalls."""

import json
import socket
import threading
import time

import pytest

from bench.agents_case import reloaded
from bench.chat import Answered, Connection, chat, open_loop
from bench.faults_case import rescue_cost
from bench.growth_case import slope
from bench.lifetime_case import Memory, growth
from bench.plan import BenchError

MS = 1_000_000
ANSWER = b"HTTP/1.1 200 OK\r\nX-Splitlane-Policy: abc\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("size", [1_000, 1_500, 100_000])
def test_body_has_the_size_asked_for_and_is_json(size: int) -> None:
    head, _, body = chat(7, size, agent="agent-3").partition(b"\r\n\r\n")
    assert f"Content-Length: {size}".encode() in head
    assert len(body) == size
    assert json.loads(body)["model"] == "agent-3"


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_slope_is_the_power_by_which_cost_grows(power: float) -> None:
    assert slope([(size, 3.0 * size**power) for size in (1e3, 1e4, 1e7)]) == pytest.approx(power)


def test_a_rescue_of_three_plain_requests_costs_three() -> None:
    plain, share = 40.0, 0.1
    assert rescue_cost(0.9 * plain + share * 3 * plain, plain, share) == pytest.approx(3)


def test_growth_is_what_comes_after_the_first_requests() -> None:
    steady = [(number * 100_000, Memory(50 if number < 2 else 60 + number, 0, 0)) for number in range(10)]
    assert growth(steady, lambda memory: memory.own) == pytest.approx(10)
    assert growth(steady, lambda memory: memory.others) == 0


def test_reload_takes_until_the_first_answer_by_the_new_policy() -> None:
    early = [Answered(due * MS, 0, 2 * MS, b"old") for due in range(0, 100, 5)]
    waited = [Answered(100 * MS, 0, 40 * MS, b"old"), Answered(145 * MS, 0, 5 * MS, b"new")]
    told = reloaded("splitlane", [*early, *waited, Answered(900 * MS, 0, 99 * MS, b"new")], ordered=100 * MS)
    assert told["reload_s"] == pytest.approx(0.05)
    assert (told["reload_worst_ms"], told["before_worst_ms"]) == (40, 2)
    with pytest.raises(BenchError, match="no answer was by the new policy"):
        reloaded("splitlane", early, ordered=50 * MS)


def served(listening: socket.socket, stall_at: int, stall: float) -> None:
    """Answer one connection's requests until it ends; before one of them do nothing for a while."""
    connection, _ = listening.accept()
    number = 0
    with connection:
        while connection.recv(1 << 16):
            if number == stall_at:
                time.sleep(stall)
            connection.sendall(ANSWER)
            number += 1


def test_requests_that_were_due_during_a_stall_have_waited_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=served, args=(listening, 10, 0.2))
        server.start()
        port = listening.getsockname()[1]
        answered = open_loop("stalling", port, requests=[chat(0)], rate=100, seconds=0.4, connections=1)
        server.join()
    assert len(answered) == 40
    assert {each.policy for each in answered} == {b"abc"}
    # 20 were due in those 200 ms, one every 10 ms: half of them have waited for half of it and more.
    assert sum(each.latency > 100 * MS for each in answered) >= 10


def test_an_answer_that_is_not_200_ends_the_measurement() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection("failing", listening.getsockname()[1])
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            with pytest.raises(BenchError, match="failing answered"):
                connection.read()
        connection.close()

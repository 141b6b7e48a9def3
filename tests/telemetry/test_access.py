"""The access log's lines: which requests get one, and what it says."""

import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.access import AT_ONCE, WITHIN, AccessLog, line_of
from proxy.telemetry.lines import LineWriter, standard_error
from proxy.words import Assignment, Attempt, Decision, Failure, Record, Usage, Variant
from tests.support.records import SOUND

USAGE = Usage(19, 10, cached=8, reasoning=4)
FAILED = Attempt("up", "ft:m", 500, Failure.SERVER_ERROR, 0.0004, 0.25, None, 0.0)
RESCUE = Attempt("up", "m", 200, None, 0.2504, 0.5, USAGE, 0.002)
RESCUED = replace(
    SOUND,
    served="m",
    fallback=Failure.SERVER_ERROR,
    attempts=(FAILED, RESCUE),
    latency=0.7525009,
    blocked=0.75,
    ttft=-1.0,
    unit="00" * 16,
    adapted=("seed",),
)
SUCCESS = replace(RESCUED, fallback=None, attempts=(RESCUE,), adapted=())
TOKENS = {"input": 19, "output": 10, "cached": 8, "reasoning": 4, "estimated": False}


@contextmanager
def piped() -> Iterator[tuple[AccessLog, int, LineWriter]]:
    """An access log and the end of the pipe where it is read."""
    read_end, write_end = os.pipe()
    writer = LineWriter(lambda: write_end)
    try:
        yield AccessLog(writer), read_end, writer
    finally:
        writer.flush(5)
        os.close(read_end)
        os.close(write_end)


def with_draw(record: Record, draw: int) -> Record:
    return replace(record, request_id=f"{record.request_id[:-8]}{draw:08x}")


UNLUCKY = with_draw(SUCCESS, 2**32 - 1)


# --- which requests ---------------------------------------------------------------------------------


@given(st.floats(0.001, 1), st.integers(0, 2**32 - 1))
def test_draw_is_the_ids_and_its_share_is_the_policys(share: float, draw: int) -> None:
    log = AccessLog(standard_error)
    assert log.follow(share)
    assert log.wants(with_draw(SUCCESS, draw)) == (draw < int(share * 2**32))


@pytest.mark.parametrize("draw", [0, 2**32 - 1])
def test_share_of_one_is_every_request(draw: int) -> None:
    log = AccessLog(standard_error)
    log.follow(1.0)
    assert log.wants(with_draw(SUCCESS, draw))


@pytest.mark.parametrize("change", [{"failure": Failure.CLIENT_GONE, "status": 499}, {"fallback": Failure.RESET}])
def test_failed_and_rescued_requests_have_their_line_whatever_is_drawn(change: dict[str, Any]) -> None:
    log = AccessLog(standard_error)
    log.follow(0.01)
    assert not log.wants(UNLUCKY)
    assert log.wants(replace(UNLUCKY, **change))


def test_share_of_nothing_is_off() -> None:
    assert not AccessLog(standard_error).follow(0.0)


# --- what the line says -----------------------------------------------------------------------------


def test_line_of_a_rescued_request_has_both_attempts_and_why() -> None:
    assert json.loads(line_of(RESCUED)) == {
        "time": "2023-11-14T22:13:20.752Z",
        "level": "info",
        "logger": "splitlane.access",
        "message": "request",
        "request_id": RESCUED.request_id,
        "route": "chat",
        "agent": "qa_agent",
        "assignment": "finetuned",
        "variant": "finetuned",
        "bucket": 5,
        "served": "m",
        "status": 200,
        "outcome": "success",
        "fallback": "server_error",
        "attempts": [
            {
                "upstream": "up",
                "model": "ft:m",
                "status": 500,
                "reason": "server_error",
                "started": 0.0004,
                "seconds": 0.25,
                "tokens": None,
                "cost": 0.0,
            },
            {
                "upstream": "up",
                "model": "m",
                "status": 200,
                "reason": None,
                "started": 0.2504,
                "seconds": 0.5,
                "tokens": TOKENS,
                "cost": 0.002,
            },
        ],
        "ttft": None,
        "latency": 0.7525,
        "overhead": 0.0025,
        "tokens": TOKENS,
        "cost": 0.002,
        "stream": False,
        "adapted": ["seed"],
        "response_id": "chatcmpl-1",
        "trace_id": None,
        "policy": "0123456789ab",
    }


def test_line_of_a_request_that_nobody_could_serve_has_nulls() -> None:
    record = replace(SUCCESS,
        decision=Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1),
        served="", failure=Failure.BAD_REQUEST, status=400, attempts=(), usage=None, cost=0.0, response_id="",
    )  # fmt: skip
    line = json.loads(line_of(record))
    empty = {name for name, value in line.items() if value is None}
    assert empty == {"bucket", "served", "fallback", "ttft", "tokens", "response_id", "trace_id"}
    assert (line["outcome"], line["attempts"]) == ("bad_request", [])


def test_line_is_one_line_and_names_no_user() -> None:
    line = line_of(replace(RESCUED, ttft=0.1, stream=True))
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert RESCUED.unit.encode() not in line
    assert json.loads(line)["ttft"] == 0.1


def lines_in(read_end: int, writer: LineWriter) -> list[bytes]:
    """What has been written since."""
    writer.flush(5)
    return os.read(read_end, 1 << 20).splitlines(keepends=True) if select.select([read_end], [], [], 0)[0] else []


def test_lines_are_counted() -> None:
    with piped() as (log, read_end, writer):
        log.follow(0.01)
        for _ in range(3):
            log.take([RESCUED, UNLUCKY])
        log.write()
        lines = lines_in(read_end, writer)
        counts = {family.name: family.samples[0].value for family in log.collect()}
    assert lines == [line_of(RESCUED)] * 3
    assert counts == {"splitlane_access_log_written": 3, "splitlane_access_log_dropped": 0}


def test_line_waits_for_company_but_not_for_long() -> None:
    with piped() as (log, read_end, writer):
        log.follow(0.01)
        log.look(100.0)
        log.take([RESCUED])
        log.look(100.0 + WITHIN - 0.01)
        assert lines_in(read_end, writer) == []
        log.look(100.0 + WITHIN)
        assert lines_in(read_end, writer) == [line_of(RESCUED)]
        log.look(200.0)
        log.take([RESCUED] * (AT_ONCE - 1))
        assert lines_in(read_end, writer) == []
        log.take([UNLUCKY, RESCUED])
        assert len(lines_in(read_end, writer)) == AT_ONCE
        log.look(300.0)
        assert lines_in(read_end, writer) == []

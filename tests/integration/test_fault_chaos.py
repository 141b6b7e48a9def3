"""`python -m bench.chaos`: a short run of it, and what it says when an invariant is broken."""

import asyncio
import json
import sys
from dataclasses import replace

import pytest

from bench.chaos import Result, text_of
from tests.support.served import ROOT

FINE = Result(
    seconds=2.0,
    seed=1,
    faults={"model reset": 3, "candidate Down": 1},
    downs=1,
    sent=10,
    stayed=8,
    answered=8,
    whole=7,
    broken=1,
    rescued=2,
    lost=0,
    wrong=[],
    outcomes={"success": 9, "stream_truncated": 1},
    records=10,
    twice=0,
    unknown=0,
    dropped=0,
    in_flight=0,
    buffered=0,
    exit_code=0,
)


async def test_two_seconds_of_everything_lose_no_request_and_no_record() -> None:
    argv = ("-m", "bench.chaos", "--seconds", "2", "--seed", "5", "--json")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, cwd=ROOT, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()
    found = json.loads(out)
    assert found["violations"] == []
    assert found["sent"] == found["records"] == sum(found["outcomes"].values()) > 40
    assert found["rescued"] > 0
    assert sum(found["faults"].values()) > 20


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lost", 1),
        ("wrong", ["no answer"]),
        ("outcomes", {"success": 9}),
        ("records", 9),
        ("twice", 1),
        ("unknown", 1),
        ("dropped", 1),
        ("in_flight", 1),
        ("buffered", 1),
        ("exit_code", 1),
    ],
)
def test_broken_invariant_is_told(field: str, value: object) -> None:
    assert FINE.violations() == []
    assert len(replace(FINE, **{field: value}).violations()) == 1  # type: ignore[arg-type]


def test_text_has_the_figures() -> None:
    text = text_of(FINE)
    assert "10; lost 0, twice 0" in text
    assert "success 9, stream_truncated 1" in text

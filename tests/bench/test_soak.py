"""`python -m bench.soak`, for three seconds; and the laws it holds a run to."""

import argparse
import random

import pytest

from bench.soak import arguments, soak
from bench.soak_laws import FLAT, Sample, Sums, broken_laws, growth


@pytest.mark.parametrize("store", [[], ["--postgres"]], ids=["sqlite", "postgresql"])
async def test_few_seconds_of_everything_break_no_law(store: list[str]) -> None:
    options = arguments().parse_args(["--seconds", "3", "--rate", "40", *store])
    assert isinstance(options, argparse.Namespace)
    outcome, problems = await soak(options, options.seconds)
    assert problems == []
    last = outcome.rows[-1]
    assert last["in_flight"] == last["queued"] == last["dropped"] == 0
    assert " 0 lost" in outcome.notes[0]
    assert "0 reloads" not in outcome.notes[2]
    assert "0 outages" not in outcome.notes[2]


def sample(seconds: float, rss: float = 60.0, **changes: int) -> Sample:
    return Sample(seconds, rss, 5, 20, 0, 100, 90, 0, 10)._replace(**changes)


FLAT_RUN = [sample(float(each)) for each in range(600)]
BASE, END = sample(0.0), sample(601.0, enqueued=100, written=100, queued=0)
SUMS = Sums(sent=110, answered=95, left=15)


def test_run_in_which_all_holds_has_no_problem() -> None:
    assert broken_laws(FLAT_RUN, BASE, END, SUMS, 100, 100) == []


@pytest.mark.parametrize(
    ("end", "sums", "outcomes", "rows", "problem"),
    [
        (END._replace(written=99), SUMS, 100, 100, "99 written"),
        (END, Sums(sent=110, answered=94, left=15, lost=1), 100, 100, "1 requests of 110"),
        (END, SUMS, 94, 94, "94 outcomes"),
        (END, SUMS, 111, 111, "111 outcomes"),
        (END, SUMS, 100, 99, "99 rows"),
        (END._replace(in_flight=1), SUMS, 100, 100, "1 requests are in flight"),
        (END._replace(tasks=6), SUMS, 100, 100, "6 tasks"),
        (END._replace(descriptors=21), SUMS, 100, 100, "21 descriptors"),
    ],
)
def test_each_law_that_is_broken_is_told(end: Sample, sums: Sums, outcomes: int, rows: int, problem: str) -> None:
    (told,) = broken_laws(FLAT_RUN, BASE, end, sums, outcomes, rows)
    assert problem in told


def test_memory_that_grows_is_told_and_memory_that_only_wavers_is_not() -> None:
    chance = random.Random(3)
    wavering = [sample(float(each), 60 + chance.gauss(0, 1)) for each in range(600)]
    growing = [each._replace(rss=each.rss + each.seconds / 3600 * 3 * FLAT) for each in wavering]
    assert broken_laws(wavering, BASE, END, SUMS, 100, 100) == []
    (told,) = broken_laws(growing, BASE, END, SUMS, 100, 100)
    assert "memory grows" in told
    grown = growth(growing)
    assert grown is not None
    assert abs(grown.value - 3 * FLAT) < 2 * grown.half
    assert growth(wavering[:10]) is None

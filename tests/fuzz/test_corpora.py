"""Every kept input holds its target's laws, repeated ones in linear time; so do a few thousand new ones.

An input that fails here is kept by `python -m tests.fuzz keep TARGET FILE`, and tried again by `… replay TARGET FILE`.
"""

import logging
import time
from itertools import islice
from random import Random

import pytest

from tests.fuzz.corpora import TARGETS, all_kept, check_time, failure, kept, load, smaller
from tests.fuzz.mutate import mutants

INPUTS = [pytest.param(name, data, id=f"{name}/{file}") for name, file, data in all_kept()]
# New inputs for each target: so many, or as many as go into that time.  They are the same everywhere.
INPUTS_TRIED = 3000
SECONDS = 0.3


@pytest.fixture(autouse=True)
def silence() -> None:
    """What is refused is not logged here; every test's end gives the log its level back."""
    logging.getLogger("splitlane").setLevel(logging.CRITICAL)


@pytest.mark.parametrize(("name", "data"), INPUTS)
def test_kept_input_holds_the_laws(name: str, data: bytes) -> None:
    target = load(name)
    target.check(data)
    check_time(target, data)


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs_hold_the_laws(name: str) -> None:
    target, corpus = load(name), list(kept(name).values())
    until = time.monotonic() + SECONDS
    for data in islice(mutants(corpus, target.TOKENS, Random(name)), INPUTS_TRIED):
        if how := failure(target.check, data):
            pytest.fail(f"{how} for {data!r}")
        if time.monotonic() >= until:
            return


def test_failing_input_is_made_as_small_as_its_failure_allows() -> None:
    def check(data: bytes) -> None:
        assert b"a" not in data or b"z" not in data

    data = b"0123a456789" * 50 + b"..z.." * 9
    how = failure(check, data)
    assert how.startswith("AssertionError in line")
    assert failure(check, b"az") == how
    assert smaller(data, lambda each: failure(check, each) == how) == b"az"

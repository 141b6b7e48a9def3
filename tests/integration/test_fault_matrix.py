"""Fault × phase × form × who fails: every combination comes to what a few rules say.

ACCEPTANCE 10 to 13, 15, 19, 20, 23 and 37, in every combination that there is.
The rules are in `faults/outcome.py`, the faults and the combinations that cannot be in `faults/cells.py`.
"""

import logging
from collections import Counter
from dataclasses import fields

import pytest

from proxy.stub.faults import Fault as StubFault
from proxy.stub.faults import parse_fault
from tests.integration.faults.cells import CHOOSING, STUB, Where, buffered, cells, excluded, pairs, product
from tests.integration.faults.running import mismatches


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """A thousand rescues are a thousand warnings."""
    logging.getLogger("splitlane").setLevel(logging.ERROR)


@pytest.mark.parametrize("where", Where)
async def test_every_fault_comes_to_what_the_rules_say(where: Where) -> None:
    assert await mismatches(cells(where)) == []


async def test_two_faults_in_one_request_come_to_what_the_rules_say() -> None:
    assert await mismatches(pairs()) == []


async def test_streams_held_to_their_end_come_to_what_the_rules_say() -> None:
    assert await mismatches(buffered()) == []


def test_every_combination_is_run_or_left_out_by_a_rule_that_has_a_name() -> None:
    left_out = Counter(rule for where in Where for cell in product(where) if (rule := excluded(cell)))
    run = sum(len(cells(where)) for where in Where)
    assert run + left_out.total() == sum(1 for where in Where for _ in product(where))
    assert run >= 800
    assert len(pairs()) >= 200
    assert len(buffered()) >= 60
    assert set(left_out) == {
        "the word is about the other form",
        "the word strikes in another phase",
        "the stub breaks a JSON answer half way, whatever N is",
        "the request has gone before the response comes",
        "a request that cannot set out is none",
        "a request is one, whoever answers",
    }


def test_every_word_of_the_stub_is_in_the_matrix() -> None:
    used = {
        word.name
        for words in STUB
        for spec in words.specs.values()
        for word in fields(StubFault)
        if getattr(parse_fault(spec), word.name) != word.default
    }
    assert used | CHOOSING == {word.name for word in fields(StubFault)}

"""How rollouts stand, from the rows that a controller leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.experiment import memory
from proxy.experiment.actions import FAILED, PAUSED, Action
from proxy.experiment.evidence import Hold
from proxy.experiment.judge import SRM
from proxy.ledger.database import Database
from proxy.ledger.schema import MIGRATIONS
from proxy.ledger.standing import Standing, standing
from tests.ledger.records import NOW, opened

NOTHING = Standing({}, {}, {})


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    with opened(store_url) as database:
        yield database


def decide(database: Database, agent: str, *actions: Action) -> None:
    for action in actions:
        ((number,),) = database.execute("SELECT count(*) FROM decisions")
        memory.record(
            database,
            memory.Decision(f"018f-{number}", NOW + number, agent, "s", 10.0, action, None, (), "somebody", {}),
        )


def test_store_without_a_rollout_says_so(store: Database) -> None:
    assert standing(store) == NOTHING


def test_holds_moves_and_p_values_are_what_the_controller_wrote(store: Database) -> None:
    memory.put_hold(store, "qa_agent", Hold(FAILED, "worse", NOW), "controller")
    memory.put_hold(store, "legal_agent", Hold(PAUSED, "holidays", NOW), "somebody")
    decide(store, "qa_agent", Action.ADVANCE, Action.ADVANCE, Action.ROLLBACK)
    decide(store, "legal_agent", Action.PAUSE)
    memory.keep_p_values(store, "qa_agent", "old", {SRM: 0.0001, "success": 0.2})
    memory.keep_p_values(store, "qa_agent", "new", {SRM: 0.5})
    memory.keep_p_values(store, "qa_agent", "new", {SRM: 0.75})
    assert standing(store) == Standing(
        {"qa_agent": FAILED, "legal_agent": PAUSED},
        {("qa_agent", "advance"): 2, ("qa_agent", "rollback"): 1, ("legal_agent", "pause"): 1},
        {("qa_agent", "old"): 0.0001, ("qa_agent", "new"): 0.5},
    )
    memory.lift_hold(store, "qa_agent")
    assert standing(store).holds == {"legal_agent": PAUSED}


def test_store_of_version_2_gets_the_index_that_decisions_are_counted_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    monkeypatch.setattr("proxy.ledger.migrate.MIGRATIONS", MIGRATIONS[:2])
    with opened(url) as database:
        decide(database, "qa_agent", Action.SET)
    monkeypatch.undo()
    with opened(url) as database:
        ((*_, plan),) = database.execute(
            "EXPLAIN QUERY PLAN SELECT agent, action, count(*) FROM decisions GROUP BY agent, action"
        )
        assert "COVERING INDEX decisions_actions" in plan
        assert standing(database).moves == {("qa_agent", "set"): 1}

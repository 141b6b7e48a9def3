"""Stores that any test may ask for: a SQLite file, and a database on a real PostgreSQL server."""

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--second-look", type=int, metavar="N", help="with --last-failed: refuse more than N tests")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of collected tests are no garbage, and every look for some would go through all of them."""
    gc.collect()
    gc.freeze()
    if most := session.config.getoption("second_look"):
        print(f"SECOND LOOK, alone, at what just failed: {[item.nodeid for item in session.items]}")
        if not 0 < len(session.items) <= most:
            pytest.exit(f"a busy machine fails one to {most} tests: these are no accident", returncode=1)


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """A policy sets the level of the process's log: not that of the next test."""
    logger = logging.getLogger("splitlane")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of this run's own, on a socket in a folder of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def fragile_postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, to be taken down."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of either kind, new for each test."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store' / 'splitlane.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()

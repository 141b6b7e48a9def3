"""What is special about PostgreSQL."""

import pytest

from proxy.ledger.database import DatabaseUnavailable
from proxy.ledger.open import open_database
from proxy.ledger.report import Window, read_report
from tests.ledger.records import HOUR, keep, opened, record
from tests.support.postgres import PostgresServer


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@@h:x/d",
        "postgresql://u:hun%ter2@h/d",
        "postgresql://u:hun/ter2@h/d",
        "postgresql://:hun/ter2@h/d",
    ],
)
def test_url_that_cannot_be_read_is_told_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        open_database(url)
    assert "hun" not in str(raised.value)
    assert "write special characters as %XX" in str(raised.value)


def test_server_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        open_database("postgresql://u:hunter2@127.0.0.1:1/d")
    assert "refused" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_reader_changes_nothing_and_reads_what_the_writer_kept(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with opened(url) as database:
        keep(database, [record()])
        reader = open_database(url, read_only=True)
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            reader.execute("DELETE FROM requests")
        (agent,) = read_report(reader, Window(HOUR, HOUR + 1)).agents
        assert agent.groups[0].requests == 1
        assert reader.execute("SHOW default_transaction_isolation") == [("repeatable read",)]
        reader.close()

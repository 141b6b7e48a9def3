"""One decider at a time, on both kinds of store."""

import time

import pytest

from proxy.experiment import lease
from proxy.experiment.lease import Busy, leased
from tests.ledger.records import opened


def test_second_one_is_told_who_decides_until_the_first_has_ended(store_url: str) -> None:
    with opened(store_url) as first, opened(store_url) as second:
        with leased(first, "ann@host") as confirm:
            with pytest.raises(Busy, match="ann@host is deciding"), leased(second, "bob@host", wait=0):
                pass
            confirm()
        with leased(second, "bob@host", wait=0):
            pass


def test_second_one_waits_for_a_short_decision(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(store_url) as first, opened(store_url) as second:
        holding = leased(first, "ann")
        holding.__enter__()
        monkeypatch.setattr(time, "sleep", lambda _: holding.__exit__(None, None, None))
        with leased(second, "bob"):
            pass


def test_lease_of_one_who_died_expires_and_its_holder_finds_out(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", -1.0)
    with opened(store_url) as first, opened(store_url) as second, leased(first, "ann") as confirm:
        monkeypatch.setattr(lease, "SECONDS", 60.0)
        with leased(second, "bob", wait=0), pytest.raises(Busy, match="bob"):
            confirm()

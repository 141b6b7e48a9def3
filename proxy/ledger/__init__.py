"""Where a request's record goes: a plain call that never waits."""

from typing import Protocol

from proxy.words import Record


class Ledger(Protocol):
    """Takes every record, once."""

    def __call__(self, record: Record) -> None:
        """Must neither block nor raise."""

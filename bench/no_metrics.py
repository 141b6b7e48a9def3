"""`splitlane`, whose records nobody takes: what the metrics cost shows beside it."""

import sys

from proxy.cli import main
from proxy.ledger import Sink
from proxy.listener.service import Service
from proxy.words import Record


def _nobody(record: Record) -> None:
    """Take it, and do nothing."""


def _no_sink(*_: object) -> Sink:
    return _nobody


if __name__ == "__main__":
    Service._sink = _no_sink  # type: ignore[method-assign,assignment]
    sys.exit(main())

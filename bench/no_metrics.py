"""`splitlane`, whose records nobody takes: what the metrics cost shows beside it."""

import sys

from proxy.cli import main
from proxy.ledger import Sink
from proxy.listener.service import Service


def _nobody(*_: object) -> tuple[Sink, ...]:
    return ()


if __name__ == "__main__":
    Service._sinks = _nobody  # type: ignore[method-assign,assignment]
    sys.exit(main())

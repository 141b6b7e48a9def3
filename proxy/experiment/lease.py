"""One decider at a time: a lease in the store that all who move ramps take first.

It is one for all agents of a store, because they share one policy file.  Whoever dies with it blocks the
others for `SECONDS` at most.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from proxy.experiment.memory import give_back, holder_of, take_lease
from proxy.ledger.database import Database, DatabaseUnavailable

NAME = "rollout"
# Longer than any look takes; those who wait for one that died wait this long.
SECONDS = 60.0
# How long another one's decision is waited for: most take less than a second.
WAIT = 5.0
_POLL = 0.1


class Busy(Exception):  # noqa: N818 it passes by itself
    """Somebody else is deciding; the message says who."""


@contextlib.contextmanager
def leased(database: Database, holder: str, wait: float = WAIT) -> Iterator[Callable[[], None]]:
    """Be the only decider in the block.  What is yielded makes sure of it once more, and raises as this does.

    Raises Busy, DatabaseUnavailable.
    """

    def take() -> None:
        now = time.time()
        if not take_lease(database, NAME, holder, now, SECONDS):
            other, expires = holder_of(database, NAME) or ("somebody else", now)
            raise Busy(f"{other} is deciding right now, for {expires - now:.0f} s at most; try again")

    late = time.monotonic() + wait
    while True:
        try:
            take()
            break
        except Busy:
            if time.monotonic() >= late:
                raise
        time.sleep(_POLL)
    try:
        yield take
    finally:
        with contextlib.suppress(DatabaseUnavailable):  # it expires by itself
            give_back(database, NAME, holder)

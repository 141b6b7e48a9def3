"""One look after the other, until a signal: what goes wrong in one is told, and tried again in the next."""

import signal
import threading
from collections.abc import Callable


def watch(look: Callable[[], int], every: float) -> int:
    """Look every so many seconds until SIGTERM or SIGINT; a look in progress is finished.  Returns 0."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not ended.is_set():
            look()
            ended.wait(every)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0

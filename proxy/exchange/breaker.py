"""When a fine-tune is not worth calling, and when one more retry would only add to the load.

Both are plain state machines over a clock that is passed in.
"""

from collections import deque
from typing import Final

from proxy.policy.snapshot import BreakerPolicy


class Breaker:
    """Opens after `failures` in a row within `window`; then one probe per `open` seconds.

    In a row, not in total: a model that fails one call in a hundred is rescued call by call, and
    an open breaker would take its other ninety-nine users away with it.
    """

    __slots__ = ("_failures", "_open_until", "_probing")

    def __init__(self) -> None:
        self._failures: deque[float] = deque()  # times of the latest in a row
        self._open_until = 0.0  # while open: when a probe may go
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, save for probes."""
        return self._open_until > 0

    def allow(self, now: float) -> bool:
        """Whether a call may be made now; where it is a probe, the only one until it reports."""
        if not self._open_until:
            return True
        if self._probing or now < self._open_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The model answered (or refused for the client's fault, which takes a living model)."""
        if self._open_until and not self._probing:
            return  # a call from before the opening: it knows less than what opened the breaker
        self._failures.clear()
        self._open_until = 0.0
        self._probing = False

    def failed(self, now: float, policy: BreakerPolicy) -> None:
        """The model failed."""
        if self._probing:
            self._probing = False
            self._open_until = now + policy.open
        elif not self._open_until:
            failures = self._failures
            failures.append(now)
            while len(failures) > policy.failures:
                failures.popleft()
            if len(failures) == policy.failures and now - failures[0] <= policy.window:
                self._open_until = now + policy.open
                failures.clear()

    def abandoned(self) -> None:
        """The call ended without telling anything about the model: the client left."""
        self._probing = False


# How far unused retries may add up: ten seconds' worth of the minimum, as Finagle and linkerd do.
RESERVE_SECONDS: Final = 10.0


class RetryBudget:
    """Retries may be at most `ratio` of the requests, plus `minimum` a second."""

    __slots__ = ("_balance", "_last")

    def __init__(self) -> None:
        self._balance = 0.0
        self._last = -1.0

    def deposit(self, ratio: float, minimum: int) -> None:
        """A request began."""
        ceiling = max(minimum * RESERVE_SECONDS, 100 * ratio)
        self._balance = min(self._balance + ratio, ceiling)

    def withdraw(self, now: float, minimum: int) -> bool:
        """Take one retry; False where there is none left."""
        if self._last < 0:
            self._balance += minimum
        else:
            self._balance = min(
                self._balance + (now - self._last) * minimum, max(self._balance, minimum * RESERVE_SECONDS)
            )
        self._last = now
        if self._balance < 1:
            return False
        self._balance -= 1
        return True

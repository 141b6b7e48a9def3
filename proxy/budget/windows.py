"""Fixed UTC windows of an hour or a day, and the money in them.

Laws: a request belongs to the window of the time it came in, however late it is admitted or ends; what is
reserved is the sum over the requests in flight, exactly, because it is counted in whole nano-dollars.
"""

from collections.abc import Mapping
from typing import Final

HOUR: Final = 3600
DAY: Final = 86400
NANO: Final = 1_000_000_000  # nano-dollars in a US dollar


class Window:
    """What one scope, an agent or all of them, spends in one hour or one day."""

    __slots__ = ("others", "reserved", "spent", "told")

    def __init__(self, others: float) -> None:
        self.spent = 0.0  # US dollars, by this process
        self.others = others  # … by other processes, as far as is known
        self.reserved = 0  # nano-dollars, by this process's requests in flight
        self.told = ""  # what the log has said happens to requests over the limit

    def reaches(self, limit: float) -> bool:
        """Whether nothing is left of `limit`, US dollars."""
        return self.spent + self.others + float(self.reserved) / NANO >= limit


class Windows:
    """The windows of one length, for every scope.

    The two that were opened last are kept: a request whose body was slow may belong to the one before,
    and so may all of them where the clock was set back.  Requests in flight hold their own windows.
    """

    def __init__(self, name: str, seconds: int) -> None:
        self.name = name  # hour | day
        self._seconds = seconds
        self._open: dict[int, dict[str, Window]] = {}
        self._latest: dict[str, Window] = {}  # those that were asked for last: of times from here …
        self._from = self._until = 0.0  # … up to there
        self._turns = 0  # how often that changed
        self._others: Mapping[tuple[int, str], float] = {}

    def of(self, scope: str, time: float) -> Window:
        """A scope's window at Unix time `time`."""
        self.turn_to(time)
        window = self._latest.get(scope)
        if window is None:
            number = int(time // self._seconds)
            window = self._latest[scope] = Window(self._others.get((number, scope), 0.0))
        return window

    def turn_to(self, time: float) -> int:
        """Ask for windows of Unix time `time` from now on: as long as the answer is the same, so are they."""
        if not self._from <= time < self._until:
            self._turn(time)
        return self._turns

    def _turn(self, time: float) -> None:
        self._turns += 1
        number = int(time // self._seconds)
        self._from, self._until = float(number * self._seconds), float((number + 1) * self._seconds)
        if number not in self._open:
            if len(self._open) == 2:
                del self._open[next(iter(self._open))]
            self._open[number] = {}
        self._latest = self._open[number]

    def end(self, time: float) -> int:
        """Unix time at which the window of `time` is over."""
        return (int(time // self._seconds) + 1) * self._seconds

    def set_others(self, spent: Mapping[tuple[int, str], float]) -> None:
        """What other processes have spent, US dollars by (number of the window, scope); the rest stays as it was."""
        self._others = spent
        for number, scopes in self._open.items():
            for scope, window in scopes.items():
                window.others = spent.get((number, scope), window.others)

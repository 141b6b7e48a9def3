"""Brakes as one proxy sees them: what the store lists, and what it has been told and may not know yet.

- A brake is in force from the moment it is tripped here, store or no store.
- What is on its way counts on top of the store's listing, in order.  When it is written it becomes part
  of the listing, and from the next one on the store decides.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from proxy.ledger.brakes import Command
from proxy.words import Brake

OnBrakes = Callable[[dict[str, Brake]], None]


class Braking:
    """The brakes in force, by agent, and the commands that change them."""

    def __init__(self, on_brakes: OnBrakes) -> None:
        """`on_brakes` gets all that are in force whenever that changes."""
        self._on_brakes = on_brakes
        self._listed: dict[str, Brake] = {}
        self._unsent: list[Command] = []
        self._sent: list[Command] = []  # on their way, in order
        self.active: Mapping[str, Brake] = {}

    @property
    def left(self) -> int:
        """How many commands the store has not got."""
        return len(self._unsent) + len(self._sent)

    def __len__(self) -> int:
        return len(self._unsent)

    def trip(self, brake: Brake) -> None:
        """Stop an agent's fine-tune; where it is stopped already, nothing."""
        if brake.agent not in self.active:
            self._unsent.append(("trip", tuple(brake)))
            self._tell()

    def clear(self, agent: str, time: float, actor: str) -> None:
        """Let an agent's fine-tune serve again, here and, as soon as they hear of it, in the other proxies."""
        self._unsent = [command for command in self._unsent if command[:2] != ("clear", agent)]
        self._unsent.append(("clear", agent, time, actor))
        self._tell()

    def take(self) -> list[Command]:
        """What has not been sent; from now on it is on its way."""
        taken, self._unsent = self._unsent, []
        self._sent += taken
        return taken

    def written(self, commands: Sequence[Command]) -> None:
        """The oldest of what was on its way is in the store."""
        if commands:
            self._listed = _after(self._listed, commands)
            del self._sent[: len(commands)]

    def listed(self, brakes: dict[str, Brake]) -> None:
        """What the store has in force, after all that was reported as written."""
        self._listed = brakes
        self._tell()

    def move(self) -> None:
        """Another store takes over: what is in force goes with us, and waits where there is none."""
        self._unsent = [("trip", tuple(brake)) for brake in self._listed.values()] + self._unsent
        self._listed = {}

    def _tell(self) -> None:
        active = _after(self._listed, chain(self._sent, self._unsent))
        if active != self.active:
            self.active = active
            self._on_brakes(dict(active))


def _after(brakes: Mapping[str, Brake], commands: Iterable[Command]) -> dict[str, Brake]:
    """The brakes in force once the commands are carried out."""
    found = dict(brakes)
    for command in commands:
        if command[0] == "trip":
            brake = Brake._make(command[1])
            found.setdefault(brake.agent, brake)
        else:
            found.pop(command[1], None)
    return found

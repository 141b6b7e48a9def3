"""Step 4 when there is a crowd: who is let in once the proxy is half full, or its event loop late.

Below half of `max_in_flight` nobody is counted by agent.  Above, each agent is let in while what it
holds stays within a multiple of the places that are free.  So one agent alone ends at its share,
several that press end at equal parts, and whoever comes with little finds a place: the dynamic
threshold of shared-memory switches (Choudhury and Hahne, 1998), which needs no share for each agent.

A loop that stays late serves nobody well.  Refusing costs a fraction of serving, so that while it
is late all new requests are refused, and it soon is not.
"""

from typing import Final

from proxy.exchange.call import OTHER, CallState, Refusal
from proxy.policy.snapshot import LimitsPolicy
from proxy.wire.errors import failure_answer
from proxy.words import Failure

# Looks in a row that find the loop late before anybody is refused: a process that was held up once is well again.
LATE_LOOKS: Final = 3


class Crowd:
    """What the requests hold that came when there was a crowd; the event loop's."""

    __slots__ = ("_half", "_looks", "_max_lag", "begins", "held", "late", "refused")

    def __init__(self, limits: LimitsPolicy) -> None:
        self.begins = 0  # requests in flight from which on `admit` is to be asked
        self.late = False  # the loop is: nobody is let in
        self.held: dict[str, int] = {}  # requests by agent, of those that `admit` let in
        self.refused = {"max_in_flight": 0, "agent_share": 0, "max_lag": 0}  # how often, by limit
        self._looks = 0
        self._half = 0
        self._max_lag = 0.0
        self.follow(limits)

    def follow(self, limits: LimitsPolicy) -> None:
        """These are the limits from now on."""
        self._half = limits.max_in_flight // 2
        self._max_lag = limits.max_lag
        self.begins = 0 if self.late else self._half

    def look(self, lag: float) -> None:
        """The event loop's timer ran `lag` seconds late; to be told many times a second."""
        self._looks = self._looks + 1 if lag > self._max_lag else 0
        late = self._looks >= LATE_LOOKS
        if late is not self.late:
            self.late = late
            self.begins = 0 if late else self._half

    def admit(self, call: CallState, in_flight: int) -> None:
        """Let a request in beside `in_flight` others, or raise Refusal."""
        limits, name = call.policy.limits, call.agent_name
        free = limits.max_in_flight - in_flight
        if self.late:
            self._refuse("max_lag")
        if free <= 0:
            self._refuse("max_in_flight")
        held = self.held.get(name, 0)
        share = limits.agent_share
        # An agent that is the only one has nobody to leave room for.
        if held * (100.0 - share) >= share * free and (name == OTHER or len(call.policy.agents) > 1):
            self._refuse("agent_share")
        self.held[name] = held + 1
        call.crowding = True

    def left(self, call: CallState) -> None:
        """A request that `admit` let in is over."""
        name = call.agent_name
        held = self.held[name] - 1
        if held:
            self.held[name] = held
        else:
            del self.held[name]

    def _refuse(self, limit: str) -> None:
        self.refused[limit] += 1
        raise Refusal(failure_answer(Failure.OVERLOAD), Failure.OVERLOAD)

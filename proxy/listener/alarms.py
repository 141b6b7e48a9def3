"""What people are told at once, and the brakes they are told of: between exchange, ledger and Slack.

A brake that trips here is in force already; it is handed to the ledger, which remembers it and tells the
other proxies.  Whoever trips it announces it, whoever is asked to clear it says so.
"""

import logging
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.budget.budgets import BudgetExceeded
from proxy.exchange.exchange import Exchange
from proxy.ledger.ledger import Ledger
from proxy.policy.problems import PolicyError
from proxy.policy.snapshot import Policy
from proxy.policy.store import PolicyStore
from proxy.telemetry.log import utc
from proxy.telemetry.slack import Notices
from proxy.words import Brake

log = logging.getLogger("splitlane.listener")


class Alarms:
    """Listens to all that raises one; the event loop's."""

    def __init__(self, exchange: Exchange, store: PolicyStore) -> None:
        self.notices = Notices()
        self.ledger: Ledger | None = None
        # Who tells people instead of us, and who hears of brakes where no store is shared.
        self.tell_instead: Callable[[str, str], None] | None = None
        self.on_trip: Callable[[Brake], None] | None = None
        self.on_clear: Callable[[str, str], None] | None = None
        self._exchange = exchange
        self._brakes = exchange.attempts.brakes
        self._ours: set[str] = set()  # ids of brakes in force that were tripped here
        self._brakes.on_trip = self._tripped
        exchange.budgets.on_exceeded = self._exceeded
        store.on_rejected = self._rejected

    def follow(self, policy: Policy) -> None:
        """Tell whom `policy` says."""
        self.notices.follow(policy.alerting.slack_webhook)

    def hold(self, brakes: dict[str, Brake]) -> None:
        """All brakes in force, as the ledger knows them."""
        known = self._brakes.tripped
        self._brakes.hold(brakes)
        for name, brake in brakes.items():
            if name not in known:
                log.warning("brake of %s: in force since %s: %s", name, utc(brake.time), brake.evidence)
        for name, brake in known.items():
            if name not in brakes:
                log.warning("brake of %s: cleared", name)
                if brake.id in self._ours:
                    self._tell(f"cleared {brake.id}", f"brake of {name} cleared: its fine-tune serves again")
        self._ours &= {brake.id for brake in brakes.values()}

    def clear(self, agent: str, actor: str) -> Brake | None:
        """Take an agent's brake back because `actor` says so; the brake, where one was in force."""
        brake = self._brakes.tripped.get(agent)
        if brake is not None:
            log.warning("brake of %s: cleared by %s", agent, actor)
            self._tell(f"cleared {brake.id}", f"brake of {agent} cleared by {actor}: its fine-tune serves again")
            self._brakes.hold({name: other for name, other in self._brakes.tripped.items() if name != agent})
        if self.ledger is not None:
            self.ledger.clear(agent, actor)  # one that the store knows of and we do not is cleared too
        if self.on_clear is not None:
            self.on_clear(agent, actor)
        return brake

    def tripped_elsewhere(self, brake: Brake) -> None:
        """Another worker has tripped it."""
        if self.ledger is not None and brake.agent not in self._brakes.tripped:
            self.ledger.trip(brake)

    def cleared_elsewhere(self, agent: str, actor: str) -> None:
        """Another worker was asked to take it back."""
        if self.ledger is not None:
            self.ledger.clear(agent, actor)

    def collect(self) -> Iterator[Metric]:
        """Brakes by agent of the active policy, and notices."""
        tripped = GaugeMetricFamily("splitlane_brake_tripped", "1: the brake is in force.", labels=["agent"])
        trips = CounterMetricFamily("splitlane_brake_trips", "How often it tripped here.", labels=["agent"])
        for agent in self._exchange.policy.agents.values():
            tripped.add_metric([agent.name], agent.name in self._brakes.tripped)
            trips.add_metric([agent.name], self._brakes.trips.get(agent.name, 0))
        yield tripped
        yield trips
        yield from self.notices.collect()

    def _tripped(self, brake: Brake) -> None:
        self._ours.add(brake.id)
        self._tell(
            f"tripped {brake.id}",
            f"brake of {brake.agent} tripped: the baseline serves everybody until a person clears it; {brake.evidence}",
        )
        if self.ledger is not None:
            self.ledger.trip(brake)
        if self.on_trip is not None:
            self.on_trip(brake)

    def _exceeded(self, excess: BudgetExceeded) -> None:
        scope, window, limit, resets_at, action, meaning = excess
        self._tell(
            f"budget {scope} {window} {resets_at} {action}",
            f"budget of {scope}, {window}: {limit:g} US dollars are spent; until {utc(resets_at)} {meaning}",
        )

    def _rejected(self, error: PolicyError) -> None:
        # The problems are in the log and on /policy, which stay in the house.
        count = len(error.problems)
        self._tell(
            f"rejected {error}",
            f"policy {self._exchange.policy.hash} kept: the new one has {count} problem(s), which GET /policy lists",
        )

    def _tell(self, key: str, text: str) -> None:
        tell = self.tell_instead or self.notices.tell
        tell(key, f"Splitlane, {self._exchange.policy.environment}: {text}")
